package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
	"github.com/sconce-dev/sconce/proxy"
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
	Wakeable      bool              `json:"wakeable"`
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
		Stage: s.GetStage(), StageTime: optionalTime(s.GetStageTime()), WakeFailure: s.GetWakeFailure(), Lost: s.GetLost(), Wakeable: s.GetWakeable(),
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
	tw := newTable(w)
	fmt.Fprintln(tw, "ID\tNAME\tCLUSTER\tSTATE\tOWNER\tAGE")
	for _, s := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Name, s.Cluster, s.State, s.Owner, age(now.Sub(s.CreateTime)))
	}
	return tw.Flush()
}

// sessionSheet prints one session, a field to a line.
func sessionSheet(w io.Writer, s sessionView) error {
	sheet := newSheet(w)
	sheet.row("id", s.ID)
	sheet.row("name", s.Name)
	sheet.row("cluster", s.Cluster)
	sheet.row("state", s.State)
	sheet.row("reason", s.Reason)
	sheet.row("what to do", whatToDo(s))
	sheet.row("being woken", stage(s))
	sheet.row("not woken", s.WakeFailure)
	sheet.row("owner", s.Owner)
	sheet.row("organisation", s.Organisation)
	sheet.row("catalog", s.Catalog)
	sheet.row("database", s.Database)
	sheet.row("conf", pairs(s.Conf))
	sheet.row("labels", pairs(s.Labels))
	sheet.row("idle timeout", never(s.IdleTimeout))
	sheet.row("max age", never(s.MaxAge))
	sheet.at("created", &s.CreateTime)
	sheet.at("changed", &s.ChangeTime)
	sheet.at("last used", s.LastUseTime)
	if s.State == "idle" {
		sheet.at("idle since", s.IdleTime)
	} else {
		sheet.at("last idle", s.IdleTime)
	}
	sheet.at("closes", s.ExpireTime)
	sheet.at("closed", s.CloseTime)
	sheet.row("generation", fmt.Sprint(s.Generation))
	sheet.row("engine", s.EngineVersion)
	sheet.row("Spark UI", s.UIURL)
	for _, l := range s.Lost {
		sheet.row("not carried over", l)
	}
	if s.OpenStreams > 0 {
		sheet.row("open streams", fmt.Sprint(s.OpenStreams))
	}
	if s.Detached > 0 {
		sheet.row("operations without a stream", fmt.Sprint(s.Detached))
	}
	return sheet.Flush()
}

// whatToDo words what comes next for a session that failed.
func whatToDo(s sessionView) string {
	switch {
	case s.State != "failed":
		return ""
	case s.Wakeable:
		return "run the query again, which wakes it"
	}
	return strings.ReplaceAll(proxy.Anew, "{session}", s.ID)
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
