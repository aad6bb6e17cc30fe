package transfer

import "testing"

func TestInsecure(t *testing.T) {
	i, err := ParseInsecure([]string{"registry.lan:5000", "registry.lan", "10.1.0.0/16", "fd00::/8", "[fd01::1]:5000"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"registry.lan:5000": true, "registry.lan": true, "registry.lan:5001": false, "other.invalid": false,
		"10.1.2.3:5000": true, "10.1.2.3": true, "10.2.0.1:5000": false, "[fd00::1]:5000": true, "[fe80::1]:5000": false, "[fd01::1]:5000": true,
		"localhost": true, "127.0.0.1:1": true, "[::1]:5000": true,
	} {
		if got := i.has(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	if (Insecure{}).has("10.1.2.3:5000") {
		t.Error("without the user's word a registry elsewhere must have TLS")
	}
	for _, bad := range []string{"http://registry.lan:5000", "registry.lan/team", "", "registry", "10.0.0.0/99", "registry.lan:port"} {
		if _, err := ParseInsecure([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
