package stdio

import (
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// slowLog is held up until it is let go.
type slowLog struct {
	text   strings.Builder
	begun  chan struct{}
	letGo  chan struct{}
	closed bool
}

func (l *slowLog) Write(_ entry.Stream, p []byte, _ time.Time) {
	select {
	case l.begun <- struct{}{}:
		<-l.letGo
	default:
	}
	l.text.Write(p)
}

func (l *slowLog) Cut()         { l.text.WriteString("|") }
func (l *slowLog) Close() error { l.closed = true; return nil }

func TestLossyLog(t *testing.T) {
	slow := &slowLog{begun: make(chan struct{}), letGo: make(chan struct{})}
	log := NewLossy(slow, 10)
	chunk := []byte("ab")
	write := func(s string) {
		copy(chunk, s) // the buffer is used again
		log.Write(entry.Stdout, chunk[:len(s)], time.Now())
	}
	write("aa")
	<-slow.begun // it is being written: the queue is empty
	for _, s := range []string{"bb", "cc", "dd", "ee", "ff"} {
		write(s)
	}
	write("gg") // no room
	close(slow.letGo)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l := log.(*lossy)
		l.mu.Lock()
		empty := len(l.queue) == 0
		l.mu.Unlock()
		if empty || time.Now().After(end) {
			break
		}
	}
	write("hh")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if got := slow.text.String(); got != "aabbccddeeff|hh" || !slow.closed {
		t.Errorf("wrote %q, closed %v", got, slow.closed)
	}
}
