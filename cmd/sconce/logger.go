package main

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sconce-dev/sconce/configs"
)

// newLogger makes the logger that a configuration describes; its level is that of at
// from then on, and does not keep the audit log from being written.
func newLogger(cfg configs.Log, at zap.AtomicLevel, w interface{ Write([]byte) (int, error) }) *zap.Logger {
	if level, err := zapcore.ParseLevel(cfg.Level); err == nil {
		at.SetLevel(level)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder := zapcore.NewJSONEncoder(enc)
	if cfg.Format == "console" {
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	most := zap.LevelEnablerFunc(func(l zapcore.Level) bool { return l >= zapcore.InfoLevel || at.Enabled(l) })
	return zap.New(auditCore{zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), most), at})
}

// auditLogger is the name under which package sessions writes decisions down.
const auditLogger = "audit"

// auditCore writes what is of the level, and every decision.
type auditCore struct {
	zapcore.Core
	at zap.AtomicLevel
}

func (c auditCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.LoggerName == auditLogger || c.at.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

func (c auditCore) With(fields []zapcore.Field) zapcore.Core {
	return auditCore{c.Core.With(fields), c.at}
}
