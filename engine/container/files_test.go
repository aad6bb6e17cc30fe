package container

import "testing"

func TestExchangeLines(t *testing.T) {
	for _, c := range []struct{ name, file, before, now, want string }{
		{"connected", "a\nb\n", "a\nb\n", "a\nb\nc\n", "a\nb\nc\n"},
		{"disconnected", "a\nb\nc\n", "a\nb\nc\n", "a\nc\n", "a\nc\n"},
		{"the user's lines stay", "# mine\na\nb", "a\nb\n", "a\nc\n", "# mine\na\nc\n"},
		{"what the user took out stays out", "b\n", "a\nb\n", "a\nb\nc\n", "b\nc\n"},
		{"what the user put in already", "a\nc\n", "a\n", "a\nc\n", "a\nc\n"},
	} {
		if got := string(exchangeLines([]byte(c.file), []byte(c.before), []byte(c.now))); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
