package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Sources are where a configuration comes from, the weakest first.
type Sources struct {
	// File is the YAML file; "" = none.
	File string
	// Environ is like os.Environ's result; nil = no environment.
	Environ []string
	// Set are "key=value" from flags, the key as a path with dots.
	Set []string
}

// Load fills a configuration from its sources and checks it. The error is a
// Faults unless the file could not be read at all.
func Load(src Sources) (*Config, error) {
	l := &loader{config: Default(), origin: map[string]place{}}
	if src.File != "" {
		data, err := os.ReadFile(src.File)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w: give an existing file with --config", err)
		}
		l.file(filepath.Base(src.File), data)
	}
	l.environ(src.Environ)
	l.set(src.Set)
	l.validate()
	if err := l.faults.err(); err != nil {
		return nil, err
	}
	return l.config, nil
}

// place is where the value of a key was written.
type place struct {
	source string
	line   int
}

// loader holds one load's state.
type loader struct {
	config *Config
	name   string // of the file, in faults
	// origin says for each key that was given where it was last given.
	origin map[string]place
	faults Faults
}

// fault notes a problem with the key at path, wherever that was written.
func (l *loader) fault(path, format string, args ...any) {
	p := l.origin[path]
	l.faults = append(l.faults, Fault{p.source, p.line, path, fmt.Sprintf(format, args...)})
}

// faulty says whether the value at path could not even be read, so that what
// validate thinks of the default in its place would only confuse.
func (l *loader) faulty(path string) bool {
	for _, f := range l.faults {
		if f.Path == path {
			return true
		}
	}
	return false
}

// keysOf lists the keys below prefix, "redis." or "" for all.
func (l *loader) keysOf(prefix string) []key {
	all := keys(reflect.ValueOf(l.config).Elem(), "")
	return slices.DeleteFunc(all, func(k key) bool { return !strings.HasPrefix(k.path, prefix) })
}

// environ applies the SCONCE_* variables that name a key.
func (l *loader) environ(environ []string) {
	names := map[string]key{}
	for _, k := range l.keysOf("") {
		names[k.env()] = k
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		k, known := names[name]
		if !known {
			continue
		}
		l.assign(k, value, place{source: name})
	}
}

// set applies "key=value" pairs.
func (l *loader) set(pairs []string) {
	all := l.keysOf("")
	for _, kv := range pairs {
		path, value, ok := strings.Cut(kv, "=")
		at := place{source: "--set " + path}
		if !ok {
			l.faults = append(l.faults, Fault{Source: "--set " + kv, Problem: "no value: write --set key=value"})
			continue
		}
		k, known := find(all, path)
		if !known {
			l.faults = append(l.faults, Fault{Source: at.source, Problem: "unknown key" + suggest(path, paths(all))})
			continue
		}
		l.assign(k, value, at)
	}
}

// assign parses text into the key's field.
func (l *loader) assign(k key, text string, at place) {
	l.origin[k.path] = at
	if err := parseInto(k.value, text); err != nil {
		l.fault(k.path, "%v", err)
	}
}
