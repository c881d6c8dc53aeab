package main

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sconce-dev/sconce/configs"
)

// Whatever the level, decisions are written; by the level, all else.
func TestLevelKeepsNoDecisionBack(t *testing.T) {
	for level, want := range map[string]string{
		"debug": "debug info warn decision of-it", "info": "info warn decision of-it", "warn": "warn decision of-it", "error": "decision of-it",
	} {
		var text bytes.Buffer
		at := zap.NewAtomicLevel()
		log := newLogger(configs.Log{Level: level, Format: "json"}, at, &text)
		say := func() string {
			text.Reset()
			log.Debug("debug")
			log.Info("info")
			log.Named("other").Warn("warn")
			log.Named(auditLogger).Info("decision")
			log.With(zap.String("a", "b")).Named(auditLogger).With(zap.String("c", "d")).Info("of-it")
			var said []string
			for line := range strings.Lines(text.String()) {
				_, rest, _ := strings.Cut(line, `"msg":"`)
				msg, _, _ := strings.Cut(rest, `"`)
				said = append(said, msg)
			}
			return strings.Join(said, " ")
		}
		if got := say(); got != want {
			t.Errorf("at %s: %q, want %q", level, got, want)
		}
		at.SetLevel(zap.ErrorLevel)
		if got := say(); got != "decision of-it" {
			t.Errorf("from %s to error: %q", level, got)
		}
	}
}
