package daemonlog

import (
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// adoptLogrus sends what libraries write by logrus the same way as all else.
func adoptLogrus(level slog.Level) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	if level <= slog.LevelDebug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(bridge{})
}

// bridge is a hook of logrus that writes to slog.
type bridge struct{}

// Levels says that the bridge takes every entry.
func (bridge) Levels() []logrus.Level { return logrus.AllLevels }

// Fire writes one entry.
func (bridge) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	switch {
	case e.Level <= logrus.ErrorLevel:
		level = slog.LevelError
	case e.Level == logrus.WarnLevel:
		level = slog.LevelWarn
	case e.Level == logrus.InfoLevel:
		level = slog.LevelInfo
	}
	attrs := make([]any, 0, 2*len(e.Data))
	for k, v := range e.Data {
		if err, ok := v.(error); ok {
			v = err.Error()
		}
		attrs = append(attrs, k, v)
	}
	slog.Log(e.Context, level, e.Message, attrs...)
	return nil
}
