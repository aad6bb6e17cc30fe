package runtime

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"github.com/sirupsen/logrus"
)

// hushLibcontainer sends what libcontainer logs to slog: its warnings are
// about what kelp knows and has decided, so they are for debugging.
var hushLibcontainer = sync.OnceFunc(func() {
	logrus.SetOutput(io.Discard)
	logrus.StandardLogger().ReplaceHooks(logrus.LevelHooks{})
	logrus.AddHook(hook{})
})

type hook struct{}

func (hook) Levels() []logrus.Level {
	return []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel}
}

func (hook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.ErrorLevel {
		level = slog.LevelError
	}
	attrs := []any{"from", "libcontainer"}
	for k, v := range e.Data {
		attrs = append(attrs, k, v)
	}
	slog.Log(context.Background(), level, e.Message, attrs...)
	return nil
}
