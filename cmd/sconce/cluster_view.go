package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// clusterView is a cluster as --output json shows it. Times are RFC 3339, spans are
// written as 45m0s; an idle timeout of "0s" means never, a bound of "0s" none.
type clusterView struct {
	Name           string           `json:"name"`
	Kind           string           `json:"kind"`                // address or launched
	Isolation      string           `json:"isolation,omitempty"` // session or shared
	State          string           `json:"state"`               // active, draining or unreachable
	Reason         string           `json:"reason,omitempty"`
	DrainTime      *time.Time       `json:"drain_time,omitempty"`
	Engines        int32            `json:"engines"`
	EngineVersions map[string]int32 `json:"engine_versions,omitempty"`
	Sessions       int32            `json:"sessions"` // on its engines
	StandingBy     int32            `json:"standing_by"`
	IdleTimeout    string           `json:"idle_timeout"`
	MinIdleTimeout string           `json:"min_idle_timeout"`
	MaxIdleTimeout string           `json:"max_idle_timeout"`
	AllowNeverIdle bool             `json:"allow_never_idle"`
	Catalogs       []string         `json:"catalogs,omitempty"`
}

func viewCluster(c *sconcev1.Cluster) clusterView {
	v := clusterView{
		Name: c.GetName(), Kind: strings.ToLower(c.GetKind().String()), State: strings.ToLower(c.GetState().String()),
		Reason: c.GetReason(), DrainTime: optionalTime(c.GetDrainTime()),
		Engines: c.GetEngines(), EngineVersions: c.GetEngineVersions(), Sessions: c.GetSessions(), StandingBy: c.GetStandingBy(),
		IdleTimeout: c.GetIdleTimeout().AsDuration().String(), MinIdleTimeout: c.GetMinIdleTimeout().AsDuration().String(),
		MaxIdleTimeout: c.GetMaxIdleTimeout().AsDuration().String(), AllowNeverIdle: c.GetAllowNeverIdle(), Catalogs: c.GetCatalogs(),
	}
	if c.GetIsolation() != sconcev1.Cluster_ISOLATION_UNSPECIFIED {
		v.Isolation = strings.ToLower(c.GetIsolation().String())
	}
	return v
}

// launched says that its engines and their sessions are known.
func (v clusterView) launched() bool { return v.Isolation != "" }

// clusterTable prints clusters one to a line.
func clusterTable(w io.Writer, list []clusterView) error {
	tw := newTable(w)
	fmt.Fprintln(tw, "NAME\tSTATE\tKIND\tENGINES\tSESSIONS\tSTANDING BY\tIDLE TIMEOUT")
	for _, c := range list {
		engines, sessions, standing := "-", "-", "-"
		if c.launched() {
			engines, sessions, standing = fmt.Sprint(c.Engines), fmt.Sprint(c.Sessions), fmt.Sprint(c.StandingBy)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.State, c.Kind, engines, sessions, standing, never(c.IdleTimeout))
	}
	return tw.Flush()
}

// clusterSheet prints one cluster, a field to a line.
func clusterSheet(w io.Writer, c clusterView) error {
	sheet := newSheet(w)
	sheet.row("name", c.Name)
	sheet.row("state", c.State)
	sheet.row("reason", c.Reason)
	sheet.at("draining since", c.DrainTime)
	sheet.row("kind", c.Kind)
	sheet.row("isolation", c.Isolation)
	if c.launched() {
		sheet.row("engines", strings.TrimSuffix(fmt.Sprintf("%d, %s", c.Engines, versions(c.EngineVersions)), ", "))
		sheet.row("sessions on them", fmt.Sprint(c.Sessions))
		sheet.row("standing by", fmt.Sprint(c.StandingBy))
	} else {
		sheet.row("engine", strings.Join(slices.Sorted(maps.Keys(c.EngineVersions)), ", "))
	}
	sheet.row("idle timeout", never(c.IdleTimeout))
	sheet.row("may be chosen", bounds(c))
	sheet.row("catalogs", strings.Join(c.Catalogs, ", "))
	return sheet.Flush()
}

// versions words how many engines there are of each.
func versions(of map[string]int32) string {
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%d of %s", of[v], v))
	}
	return strings.Join(parts, ", ")
}

// bounds words which idle timeouts a session may choose.
func bounds(c clusterView) string {
	text := c.MinIdleTimeout + " and more"
	if c.MaxIdleTimeout != "0s" {
		text = c.MinIdleTimeout + " to " + c.MaxIdleTimeout
	}
	if c.AllowNeverIdle {
		text += ", or never"
	}
	return text
}
