package configs

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// Launch is how a cluster's engines are started on this machine.
type Launch struct {
	// Preset is sail or spark; "" = Command.
	Preset string `yaml:"preset"`
	// Command is a program and its arguments; {port} and {dir} are filled in.
	Command []string `yaml:"command"`
	// Python is the one that the preset's package is installed for.
	Python string `yaml:"python"`
	// Env are NAME=value; {token} becomes a fresh pre-shared token.
	Env []string `yaml:"env"`
	// Memory of the engine or of Spark's driver, Cores it may use; 0 = its default.
	Memory Size `yaml:"memory"`
	Cores  int  `yaml:"cores"`
	// The rest up to Conf is for Spark: where executors run ("" = in the driver), and
	// what they have; 0 = its default.
	Master            string            `yaml:"master"`
	ExecutorMemory    Size              `yaml:"executor_memory"`
	ExecutorCores     int               `yaml:"executor_cores"`
	Executors         int               `yaml:"executors"`
	DynamicAllocation DynamicAllocation `yaml:"dynamic_allocation"`
	// Conf are key=value for Spark.
	Conf []string `yaml:"conf"`
	// StartTimeout and StopTimeout bound a start and an orderly end; 0 = the
	// preset's. StopSignal asks a command to end: TERM or INT; "" = TERM.
	StartTimeout time.Duration `yaml:"start_timeout"`
	StopTimeout  time.Duration `yaml:"stop_timeout"`
	StopSignal   string        `yaml:"stop_signal"`
	// OrphanAfter is how long engines go on without any Sconce; 0 = a minute.
	OrphanAfter time.Duration `yaml:"orphan_after"`
}

// DynamicAllocation lets Spark choose the number of executors.
type DynamicAllocation struct {
	Enabled bool `yaml:"enabled"`
	// Min and Max bound it; Max 0 = no bound.
	Min int `yaml:"min"`
	Max int `yaml:"max"`
}

// Given says whether the cluster is to be launched at all.
func (l Launch) Given() bool { return !reflect.ValueOf(l).IsZero() }

// minOrphanAfter is what a Sconce that is busy, or being replaced, may take.
const minOrphanAfter = 5 * time.Second

// launch notes what is wrong with clusters[i], which at names.
func (l *loader) launch(at string, c Cluster) {
	l.oneOf(l.written(at, "isolation"), c.Isolation, "", "session", "shared")
	l.oneOf(l.written(at, "restart"), c.Restart, "", "on_use", "never")
	if !c.Launch.Given() {
		if c.Isolation != "" || c.Warm != 0 || c.Restart != "" {
			l.fault(at, "isolation, restart and warm are of clusters that Sconce starts: write launch, or leave them out")
		}
		return
	}
	if c.Address != "" || c.TLS != (ClusterTLS{}) || c.Token != "" || c.TokenFile != "" {
		l.fault(l.written(at, "launch"), "address, tls and token are of a server that exists already: write them, or launch")
	}
	if c.Warm < 0 {
		l.fault(l.written(at, "warm"), "below zero: write 0 or more")
	}
	l.launchWhat(at+".launch", c.Launch)
	l.launchNumbers(at+".launch", c.Launch)
}

var (
	envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	// confKey is what a Spark setting is called.
	confKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*=`)
)

// ownConf are the settings that are Sconce's, by the beginning of their names.
var ownConf = []string{
	"spark.connect.grpc.binding.", "spark.driver.host=", "spark.driver.bindAddress=", "spark.connect.authenticate.token=",
	"spark.connect.session.manager.defaultSessionTimeout=", "spark.master=",
}

func (l *loader) launchWhat(at string, c Launch) {
	switch {
	case (c.Preset == "") == (len(c.Command) == 0):
		l.fault(l.written(at, "preset"), "write preset (sail or spark), or command, and not both")
	case c.Preset != "":
		l.oneOf(at+".preset", c.Preset, "sail", "spark")
		if c.Python == "" {
			l.fault(l.written(at, "python"), "missing: write the path of the Python that the engine's package is installed for")
		}
	case !filepath.IsAbs(c.Command[0]):
		l.fault(at+".command", "%q: write the program with its full path", c.Command[0])
	case !strings.Contains(strings.Join(c.Command[1:], " ")+strings.Join(c.Env, " "), "{port}"):
		l.fault(at+".command", "no {port}: write it where the engine takes the port to listen on, such as --port={port}")
	}
	if c.StopSignal != "" && c.Preset != "" {
		l.fault(at+".stop_signal", "the preset knows its own: leave it out")
	}
	l.oneOf(at+".stop_signal", c.StopSignal, "", "TERM", "INT")
	for i, kv := range c.Env {
		if !envName.MatchString(kv) {
			l.fault(fmt.Sprintf("%s.env[%d]", at, i), "write NAME=value")
		}
	}
	l.launchSpark(at, c)
}

func (l *loader) launchSpark(at string, c Launch) {
	spark := Launch{Master: c.Master, ExecutorMemory: c.ExecutorMemory, ExecutorCores: c.ExecutorCores, Executors: c.Executors,
		DynamicAllocation: c.DynamicAllocation, Conf: c.Conf}
	if c.Preset != "spark" && spark.Given() {
		l.fault(l.written(at, "preset"), "master, executors, dynamic_allocation and conf are Spark's: leave them out, or write preset: spark")
	}
	if c.Preset == "" && (c.Memory != 0 || c.Cores != 0) {
		l.fault(at, "memory and cores are of presets: write them into command or env")
	}
	for i, kv := range c.Conf {
		path := fmt.Sprintf("%s.conf[%d]", at, i)
		if !confKey.MatchString(kv) {
			l.fault(path, "write key=value")
		}
		for _, own := range ownConf {
			if strings.HasPrefix(kv, own) {
				l.fault(path, "%s is set by Sconce: leave it out (master has a key of its own)", strings.TrimRight(own, ".="))
			}
		}
	}
	d := c.DynamicAllocation
	switch {
	case !d.Enabled && (d.Min != 0 || d.Max != 0):
		l.fault(at+".dynamic_allocation", "min and max mean nothing without it: write enabled: true")
	case d.Max != 0 && d.Max < d.Min:
		l.fault(at+".dynamic_allocation.max", "%d is below min (%d): write at least that, or 0 for no bound", d.Max, d.Min)
	}
}

func (l *loader) launchNumbers(at string, c Launch) {
	for _, n := range []struct {
		key   string
		value int64
	}{
		{"memory", int64(c.Memory)}, {"cores", int64(c.Cores)}, {"executor_memory", int64(c.ExecutorMemory)},
		{"executor_cores", int64(c.ExecutorCores)}, {"executors", int64(c.Executors)},
		{"dynamic_allocation.min", int64(c.DynamicAllocation.Min)}, {"dynamic_allocation.max", int64(c.DynamicAllocation.Max)},
		{"start_timeout", int64(c.StartTimeout)}, {"stop_timeout", int64(c.StopTimeout)}, {"orphan_after", int64(c.OrphanAfter)},
	} {
		if n.value < 0 {
			l.fault(at+"."+n.key, "below zero: write 0 or more")
		}
	}
	if c.OrphanAfter > 0 && c.OrphanAfter < minOrphanAfter {
		l.fault(at+".orphan_after", "%s is less than a Sconce may be busy for: write at least %s", c.OrphanAfter, minOrphanAfter)
	}
}
