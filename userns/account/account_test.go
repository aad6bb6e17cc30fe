package account

import "testing"

func TestFind(t *testing.T) {
	for _, tt := range []struct{ lines, name, home string }{
		{"root:x:0:0::/root:/bin/sh\nann.x:*:54321:100:Ann,,,:/home/ann.x:/bin/sh\n", "ann.x", "/home/ann.x"},
		{"ann:x:54321:100::/:", "ann", "/"},
		{"ann:x:5432:100::/:/bin/sh", "", ""},
		{"ann:x:54321:100:/home", "", ""},
		{":x:54321:100::/:/bin/sh", "", ""},
		{"+::::::", "", ""},
		{"", "", ""},
	} {
		a, ok := find(tt.lines, "54321")
		if a.Name != tt.name || a.Home != tt.home || ok != (tt.name != "") {
			t.Errorf("%q gives %+v, %v", tt.lines, a, ok)
		}
	}
}
