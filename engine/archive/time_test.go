package archive

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// TestInJSON has times that a container may give its files.
func TestInJSON(t *testing.T) {
	now := time.Now()
	if got := inJSON(now); !got.Equal(now) {
		t.Errorf("%v became %v", now, got)
	}
	for _, at := range []time.Time{time.Unix(0, 0), time.Unix(-1<<40, 0), time.Unix(1<<40, 0), time.Unix(math.MaxInt64, 0), time.Unix(math.MinInt64, 0)} {
		if _, err := json.Marshal(inJSON(at)); err != nil {
			t.Errorf("%v: %v", at, err)
		}
	}
}
