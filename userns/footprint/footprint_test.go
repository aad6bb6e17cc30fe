package footprint

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const smaps = `00400000-00500000 r-xp 00000000 fe:00 1 /usr/bin/kelp
Size:               1024 kB
Rss:                 512 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r--p 00100000 fe:00 1 /usr/bin/kelp
Private_Dirty:        12 kB
Anonymous:             0 kB
00600000-00601000 r--p 00200000 fe:00 1 /usr/bin/kelp
Private_Dirty:         4 kB
Anonymous:             4 kB
00601000-00700000 rw-p 00201000 fe:00 1 /usr/bin/kelp
Private_Dirty:         0 kB
00700000-00800000 r--p 00000000 fe:00 2 /usr/lib/other
Private_Dirty:         0 kB
c000000000-c000400000 rw-p 00000000 00:00 0 
Private_Dirty:        64 kB
`

func TestClean(t *testing.T) {
	got, err := clean(strings.NewReader(smaps), "/usr/bin/kelp")
	want := []region{{0x400000, 0x500000}, {0x500000, 0x600000}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
}

func TestProgramGoesOn(t *testing.T) {
	if err := unmapCode(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile("/proc/self/smaps_rollup"); err != nil {
		t.Error(err)
	}
}
