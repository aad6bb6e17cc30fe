package transfer

import (
	"io"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// progressInterval is the time between two messages of one transfer: people
// cannot read faster.
const progressInterval = 100 * time.Millisecond

// meter tells how much has been read through it.
type meter struct {
	r        io.Reader
	id       string
	status   string
	now      int64
	told     int64 // of now, in the last message
	size     int64
	last     time.Time
	progress Progress
}

func newMeter(r io.Reader, size int64, id, status string, progress Progress) *meter {
	return &meter{r: r, id: id, status: status, size: size, progress: progress}
}

// Read implements io.Reader.
func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.now += int64(n)
	if t := time.Now(); m.now > m.told && (t.Sub(m.last) >= progressInterval || err != nil) {
		m.last, m.told = t, m.now
		m.progress(jsonstream.Message{
			ID: m.id, Status: m.status, Progress: &jsonstream.Progress{Current: m.now, Total: max(m.size, 0)},
		})
	}
	return n, err
}
