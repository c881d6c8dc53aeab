package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"
)

// output is how a result is printed.
type output struct{ format string }

func (o *output) flag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "how to print: table or json")
}

func (o *output) check() error {
	if o.format != "table" && o.format != "json" {
		return usageError{fmt.Errorf("--output %q: write table or json", o.format)}
	}
	return nil
}

// print writes v as JSON, or calls table.
func (o *output) print(w io.Writer, v any, table func(io.Writer) error) error {
	if o.format == "table" {
		return table(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// sessionView is a session as --output json shows it. Times are RFC 3339.
type sessionView struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	Owner        string     `json:"owner"`
	Organisation string     `json:"organisation"`
	Cluster      string     `json:"cluster"`
	State        string     `json:"state"`
	Reason       string     `json:"reason,omitempty"`
	Generation   uint64     `json:"generation"`
	CreateTime   time.Time  `json:"create_time"`
	ChangeTime   time.Time  `json:"change_time"`
	CloseTime    *time.Time `json:"close_time,omitempty"`
}

func viewSession(s *sconcev1.Session) sessionView {
	v := sessionView{
		ID: s.GetId(), Name: s.GetName(), Owner: s.GetOwner(), Organisation: s.GetOrganisation(),
		Cluster: s.GetCluster(), State: strings.ToLower(s.GetState().String()), Reason: s.GetReason(),
		Generation: s.GetGeneration(), CreateTime: s.GetCreateTime().AsTime(), ChangeTime: s.GetChangeTime().AsTime(),
	}
	if s.GetCloseTime() != nil {
		t := s.GetCloseTime().AsTime()
		v.CloseTime = &t
	}
	return v
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
	row("id", s.ID)
	row("name", s.Name)
	row("cluster", s.Cluster)
	row("state", s.State)
	row("reason", s.Reason)
	row("owner", s.Owner)
	row("organisation", s.Organisation)
	row("created", s.CreateTime.Local().Format(time.RFC3339))
	row("changed", s.ChangeTime.Local().Format(time.RFC3339))
	if s.CloseTime != nil {
		row("closed", s.CloseTime.Local().Format(time.RFC3339))
	}
	return tw.Flush()
}

// age words a duration in its largest unit.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	}
	return fmt.Sprintf("%ds", int(max(d, 0)/time.Second))
}
