package main

import (
	"strings"
	"testing"
	"time"
)

func TestDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"7d": 7 * 24 * time.Hour, "0d": 0, "0": 0, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute, "-1h": -time.Hour,
	} {
		var d daysFlag
		if err := d.Set(text); err != nil || time.Duration(d) != want {
			t.Errorf("%s: got %s, %v", text, time.Duration(d), err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "1d12h", "2x", "99999d"} {
		var d daysFlag
		if err := d.Set(text); err == nil || !strings.Contains(err.Error(), "7d") {
			t.Errorf("%q: %s, %v", text, time.Duration(d), err)
		}
	}
}

// Wherever a command takes a span of time that may be days, it takes days.
func TestSpansTakeDays(t *testing.T) {
	for command, flags := range map[string][]string{
		"session create": {"idle-timeout", "max-age"}, "key create": {"lifetime"},
		"token control": {"lifetime"}, "token issue": {"lifetime"}, "token reset": {"lifetime"},
	} {
		cmd, _, err := (&app{}).rootCommand().Find(strings.Fields(command))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range flags {
			if err := cmd.Flags().Set(name, "2d"); err != nil {
				t.Errorf("%s --%s 2d: %v", command, name, err)
			} else if got := cmd.Flags().Lookup(name).Value.String(); got != "48h0m0s" {
				t.Errorf("%s --%s 2d is %s", command, name, got)
			}
		}
	}
}
