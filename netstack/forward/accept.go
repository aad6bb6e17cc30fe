package forward

import (
	"context"
	"log/slog"
	"time"
)

// pauseAfter waits a little after an accept that failed, for instance for want
// of descriptors, so that the listener does not spin.
func pauseAfter(ctx context.Context, err error, log *slog.Logger) {
	log.Warn("cannot accept a connection", "error", err)
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}
