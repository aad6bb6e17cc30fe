package net

import (
	"strings"
	"testing"

	"github.com/kelp-engine/kelp/test/harness"
)

// A program of the host asks a DNS server in a container by UDP, through the
// SOCKS proxy.
func TestProxyReachesUDP(t *testing.T) {
	k := start(t)
	k.docker("network", "create", "reef")
	k.probe("names", "--network", "reef", "--", "zone", "53", "192.0.2.77")
	k.says("names", "ready")
	ask := k.Command(t.Context(), "kelp", "proxy", harness.ProgramPath("probe"), "ask", "names.reef:53", "kelp.example.")
	out, err := ask.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "[192.0.2.77]") {
		t.Errorf("the answer is %q, %v", out, err)
	}
	k.must(k.Stop(t.Context()))
}
