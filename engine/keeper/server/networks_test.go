package server

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// ask calls an operation as a client does.
func ask(t *testing.T, serve op, body any) error {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	_, err = serve(t.Context(), &call{body: b})
	return err
}

func TestNetworkWithoutContainersIsClosed(t *testing.T) {
	n := newNetworks()
	defer n.closeAll()
	reef := keeper.Network{ID: "reef", Name: "reef", Subnets: []keeper.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24"), Gateway: netip.MustParseAddr("10.9.0.1")}}}
	box := keeper.Sandbox{ID: "box", Endpoints: []keeper.Endpoint{{
		NetworkID: "reef", EndpointID: "0123456789ab", Interface: "eth0", MAC: "02:42:0a:09:00:02",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")},
	}}}
	open := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.nets["reef"] != nil
	}
	for range 2 { // it can be opened again
		n.idle = idleNetwork
		if err := ask(t, n.ensureNetwork, reef); err != nil {
			t.Fatal(err)
		}
		if err := ask(t, n.createSandbox, box); err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		if n.nets["reef"].unused.Stop() {
			t.Error("a network was to be closed while a container was on it")
		}
		n.idle = 100 * time.Millisecond
		n.mu.Unlock()
		if err := ask(t, n.releaseSandbox, map[string]string{"id": "box"}); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); open(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a network that nobody uses stays open")
			}
		}
	}
}
