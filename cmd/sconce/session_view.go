package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// sessionView is a session as --output json shows it. Times are RFC 3339, spans
// are written as 45m0s; a span of "0s" means never.
type sessionView struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Owner         string            `json:"owner"`
	Organisation  string            `json:"organisation"`
	Cluster       string            `json:"cluster"`
	State         string            `json:"state"`
	Reason        string            `json:"reason,omitempty"`
	Generation    uint64            `json:"generation"`
	Revision      uint64            `json:"revision"`
	Catalog       string            `json:"catalog,omitempty"`
	Database      string            `json:"database,omitempty"`
	Conf          map[string]string `json:"conf,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	IdleTimeout   string            `json:"idle_timeout"`
	MaxAge        string            `json:"max_age"`
	CreateTime    time.Time         `json:"create_time"`
	ChangeTime    time.Time         `json:"change_time"`
	LastUseTime   *time.Time        `json:"last_use_time,omitempty"`
	IdleTime      *time.Time        `json:"idle_time,omitempty"`
	ExpireTime    *time.Time        `json:"expire_time,omitempty"`
	CloseTime     *time.Time        `json:"close_time,omitempty"`
	EngineVersion string            `json:"engine_version,omitempty"`
	UIURL         string            `json:"ui_url,omitempty"`
	OpenStreams   int64             `json:"open_streams,omitempty"`
	Detached      int64             `json:"detached_operations,omitempty"`
	Stage         string            `json:"stage,omitempty"`
	StageTime     *time.Time        `json:"stage_time,omitempty"`
	WakeFailure   string            `json:"wake_failure,omitempty"`
	Lost          []string          `json:"lost,omitempty"`
}

func viewSession(s *sconcev1.Session) sessionView {
	return sessionView{
		ID: s.GetId(), Name: s.GetName(), Owner: s.GetOwner(), Organisation: s.GetOrganisation(),
		Cluster: s.GetCluster(), State: strings.ToLower(s.GetState().String()), Reason: s.GetReason(),
		Generation: s.GetGeneration(), Revision: s.GetRevision(),
		Catalog: s.GetCatalog(), Database: s.GetDatabase(), Conf: s.GetConf(), Labels: s.GetLabels(),
		IdleTimeout: s.GetIdleTimeout().AsDuration().String(), MaxAge: s.GetMaxAge().AsDuration().String(),
		CreateTime: s.GetCreateTime().AsTime(), ChangeTime: s.GetChangeTime().AsTime(),
		LastUseTime: optionalTime(s.GetLastUseTime()), IdleTime: optionalTime(s.GetIdleTime()),
		ExpireTime: optionalTime(s.GetExpireTime()), CloseTime: optionalTime(s.GetCloseTime()),
		EngineVersion: s.GetEngineVersion(), UIURL: s.GetUiUrl(), OpenStreams: s.GetOpenStreams(), Detached: s.GetDetachedOperations(),
		Stage: s.GetStage(), StageTime: optionalTime(s.GetStageTime()), WakeFailure: s.GetWakeFailure(), Lost: s.GetLost(),
	}
}

func optionalTime(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// sessionTable prints sessions one to a line.
func sessionTable(w io.Writer, list []sessionView, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "ID\tNAME\tCLUSTER\tSTATE\tOWNER\tAGE")
	for _, s := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Name, s.Cluster, s.State, s.Owner, age(now.Sub(s.CreateTime)))
	}
	return tw.Flush()
}

// sessionSheet prints one session, a field to a line.
func sessionSheet(w io.Writer, s sessionView) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, value)
		}
	}
	at := func(name string, t *time.Time) {
		if t != nil {
			row(name, t.Local().Format(time.RFC3339))
		}
	}
	row("id", s.ID)
	row("name", s.Name)
	row("cluster", s.Cluster)
	row("state", s.State)
	row("reason", s.Reason)
	row("being woken", stage(s))
	row("not woken", s.WakeFailure)
	row("owner", s.Owner)
	row("organisation", s.Organisation)
	row("catalog", s.Catalog)
	row("database", s.Database)
	row("conf", pairs(s.Conf))
	row("labels", pairs(s.Labels))
	row("idle timeout", never(s.IdleTimeout))
	row("max age", never(s.MaxAge))
	at("created", &s.CreateTime)
	at("changed", &s.ChangeTime)
	at("last used", s.LastUseTime)
	at("idle since", s.IdleTime)
	at("closes", s.ExpireTime)
	at("closed", s.CloseTime)
	row("generation", fmt.Sprint(s.Generation))
	row("engine", s.EngineVersion)
	row("Spark UI", s.UIURL)
	for _, l := range s.Lost {
		row("not carried over", l)
	}
	if s.OpenStreams > 0 {
		row("open streams", fmt.Sprint(s.OpenStreams))
	}
	if s.Detached > 0 {
		row("operations without a stream", fmt.Sprint(s.Detached))
	}
	return tw.Flush()
}

// never words a span of which zero means never.
func never(span string) string {
	if span == "0s" {
		return "never"
	}
	return span
}

// stage words what is being done to wake a session, and for how long.
func stage(s sessionView) string {
	if s.StageTime == nil {
		return s.Stage
	}
	return fmt.Sprintf("%s, for %s", s.Stage, max(time.Since(*s.StageTime), 0).Truncate(time.Second))
}
