package runtime

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 777 1000000 1234 18446744073709551615\n"
	want := stat{pid: 42, ppid: 1, state: 'S', userTicks: 44, kernelTicks: 66, threads: 5, startTime: 777, residentPages: 1234}
	for _, comm := range []string{"sh", "", "a) R 9 9 (b", "with space", "new\nline"} {
		if s, err := parseStat([]byte("42 (" + comm + ")" + rest)); err != nil || s != want {
			t.Errorf("%q: got %+v, %v", comm, s, err)
		}
	}
	for _, bad := range []string{"", "42", "42 (sh)", "42 (sh) S 1 2", "x (sh)" + rest, ")(", "42 (sh) S x 2 3 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 777 1000000 1234"} {
		if s, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
	if _, err := StartTime(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 2 3 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 777 1000000 1234 0\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseStat(b) })
}
