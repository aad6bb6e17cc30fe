package spec

import (
	"github.com/moby/sys/signal"

	"github.com/kelp-engine/kelp/engine/fault"
)

// maxSignal is the highest number of a signal.
const maxSignal = 64

// ParseSignal reads a signal's number, or its name with or without "SIG".
func ParseSignal(text string) (int, error) {
	s, err := signal.ParseSignal(text)
	if err != nil || s < 1 || s > maxSignal {
		return 0, fault.InvalidArgument("invalid signal: %s", text)
	}
	return int(s), nil
}
