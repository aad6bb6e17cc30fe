package stdio

import (
	"bytes"
	"testing"
)

func TestDetachKeys(t *testing.T) {
	const p, q = 0x10, 0x11
	for _, test := range []struct {
		name   string
		keys   []byte
		reads  []string
		out    string
		detach bool
	}{
		{"none", nil, []string{"\x10\x11"}, "\x10\x11", false},
		{"at once", []byte{p, q}, []string{"ls\n\x10\x11rest"}, "ls\n", true},
		{"across reads", []byte{p, q}, []string{"a\x10", "\x11b"}, "a", true},
		{"a false start goes on", []byte{p, q}, []string{"a\x10", "b\x10\x10", "c"}, "a\x10b\x10\x10c", false},
		{"the first key twice", []byte{p, q}, []string{"\x10\x10\x11"}, "\x10", true},
		{"one key", []byte{q}, []string{"ab", "c\x11d"}, "abc", true},
		{"keys that repeat", []byte("aab"), []string{"aa", "a", "b"}, "a", true},
		{"held at the end", []byte{p, q}, []string{"a\x10"}, "a", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := detacher{keys: test.keys}
			var got []byte
			detached := false
			for _, read := range test.reads {
				out, detach := d.filter([]byte(read))
				got = append(got, out...)
				if detached = detach; detached {
					break
				}
			}
			if string(got) != test.out || detached != test.detach {
				t.Errorf("got %q, %v, want %q, %v", got, detached, test.out, test.detach)
			}
		})
	}
}

// FuzzDetachKeys holds that filtering byte by byte and at once is the same, and
// that only the keys themselves and a held beginning of them get lost.
func FuzzDetachKeys(f *testing.F) {
	f.Add([]byte("ab"), []byte("xaaby"))
	f.Fuzz(func(t *testing.T, keys, input []byte) {
		if len(keys) > 16 {
			return
		}
		once := detacher{keys: keys}
		want, wantDetach := once.filter(input)
		want = bytes.Clone(want)
		piecewise := detacher{keys: keys}
		var got []byte
		gotDetach := false
		for _, b := range input {
			out, detach := piecewise.filter([]byte{b})
			got = append(got, out...)
			if gotDetach = detach; gotDetach {
				break
			}
		}
		if !bytes.Equal(got, want) || gotDetach != wantDetach {
			t.Fatalf("keys %q, input %q: got %q, %v, want %q, %v", keys, input, got, gotDetach, want, wantDetach)
		}
		at := len(keys) > 0 && bytes.Contains(input, keys)
		if at != gotDetach || !bytes.HasPrefix(input, got) || !gotDetach && len(input)-len(got) >= max(1, len(keys)) {
			t.Fatalf("keys %q, input %q: passed %q, detached %v", keys, input, got, gotDetach)
		}
	})
}
