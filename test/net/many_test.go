package net

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/userns/procstat"
)

// manyNetworks is how many Docker's default address pools would never hold.
const manyNetworks = 500

// A network costs nothing while no container is on it, and little to make and
// remove.
func TestFiveHundredNetworks(t *testing.T) {
	k := start(t)
	client := k.HTTP()
	defer client.CloseIdleConnections()
	k.docker("run", "--rm", "busybox", "true")
	before, spent := k.keeperSize(), k.spent()
	for i := range manyNetworks {
		k.post(client, "/networks/create", fmt.Sprintf(`{"Name":"n%03d","Labels":{"many":""}}`, i), http.StatusCreated)
	}
	created := k.spent() - spent
	for i := 0; i < manyNetworks; i += 25 { // some are used
		k.docker("run", "--rm", "--network", fmt.Sprintf("n%03d", i), "busybox", "true")
	}
	spent = k.spent()
	for i := range manyNetworks {
		k.post(client, fmt.Sprintf("/networks/n%03d", i), "", http.StatusOK)
	}
	inspected := k.spent() - spent
	spent = k.spent()
	k.post(client, "/networks/prune", "{}", http.StatusOK)
	pruned := k.spent() - spent
	t.Logf("processor time per network: create %v, inspect %v, prune %v", created/manyNetworks, inspected/manyNetworks, pruned/manyNetworks)
	if each := (created + pruned) / manyNetworks; each > 20*time.Millisecond {
		t.Errorf("a network takes %v to make and remove", each)
	}
	after := k.keeperSize()
	t.Logf("the keeper: %+v before, %+v after", before, after)
	if after.files > before.files+4 || after.memory > before.memory+16<<20 {
		t.Errorf("the keeper had %+v and has %+v", before, after)
	}
	k.must(k.CheckClean(t.Context()))
	k.must(k.Stop(t.Context()))
}

// spent is the processor time that the keeper and the engine have taken, which
// other programs of the machine lengthen little.
func (k *kelp) spent() (all time.Duration) {
	k.t.Helper()
	s, err := k.Status(k.t.Context())
	k.must(err)
	for _, pid := range []int{s.KeeperPID, s.EnginePID} {
		p, err := procstat.Read(pid)
		k.must(err)
		all += time.Duration(p.User+p.System) * time.Second / procstat.TicksPerSecond
	}
	return all
}

// post makes a request of the Engine API; without a body a GET.
func (k *kelp) post(client *http.Client, path, body string, want int) {
	k.t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(k.t.Context(), method, "http://kelp"+path, bytes.NewReader([]byte(body)))
	k.must(err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	k.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != want {
		var e struct{ Message string }
		_ = json.NewDecoder(resp.Body).Decode(&e)
		k.t.Fatalf("%s %s: %s: %s", method, path, resp.Status, e.Message)
	}
}

// size is what a keeper takes of the machine.
type size struct {
	files  int
	memory int // bytes of its own
}

func (k *kelp) keeperSize() size {
	k.t.Helper()
	s, err := k.Status(k.t.Context())
	k.must(err)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.KeeperPID))
	k.must(err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.KeeperPID))
	k.must(err)
	for line := range bytes.Lines(status) {
		var kib int
		if n, _ := fmt.Sscanf(string(line), "RssAnon: %d kB", &kib); n == 1 {
			return size{len(files), kib << 10}
		}
	}
	k.t.Fatal("no RssAnon")
	return size{}
}
