package api

import "testing"

// published is the life of a container on the default network, with a port, a
// health check and limits on its log, as clients of several versions see it.
func (g *golden) published(t *testing.T) {
	t.Helper()
	g.ask(t, "published-create", "POST", "/containers/create?name=c2", object{
		"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "Hostname": "c2", "Tty": true, "ExposedPorts": object{"80/tcp": object{}, "81/udp": object{}},
		"Healthcheck": object{"Test": []string{"CMD", "true"}, "Interval": 3_600_000_000_000},
		"HostConfig": object{
			"PortBindings":  object{"80/tcp": []object{{"HostIp": "127.0.0.1"}}},
			"LogConfig":     object{"Type": "json-file", "Config": object{"max-size": "1m"}},
			"RestartPolicy": object{"Name": "on-failure", "MaximumRetryCount": 3},
			"Mounts":        []object{{"Type": "tmpfs", "Target": "/scratch"}},
		},
	})
	g.ask(t, "published-start", "POST", "/containers/c2/start", nil)
	g.ask(t, "published", "GET", "/containers/c2/json", nil)
	g.ask(t, "published-1.51", "GET", "/v1.51/containers/c2/json", nil)
	g.ask(t, "published-1.24", "GET", "/v1.24/containers/c2/json", nil)
	g.ask(t, "published-list", "GET", "/containers/json", nil)
	g.ask(t, "published-list-1.24", "GET", "/v1.24/containers/json", nil)
	g.ask(t, "published-rename", "POST", "/containers/c2/rename?name=c3", nil)
	g.ask(t, "published-update", "POST", "/containers/c3/update", object{"RestartPolicy": object{"Name": "no"}})
	g.ask(t, "published-logs-tty", "GET", "/containers/c3/logs?stdout=1", nil)
	g.ask(t, "published-pause", "POST", "/containers/c3/pause", nil)
	g.ask(t, "paused-exec", "POST", "/containers/c3/exec", object{"Cmd": []string{"true"}})
	g.ask(t, "paused-attach", "POST", "/containers/c3/attach?stream=1&stdout=1", nil)
	g.ask(t, "paused-again", "POST", "/containers/c3/pause", nil)
	g.ask(t, "published-unpause", "POST", "/containers/c3/unpause", nil)
	g.ask(t, "unpaused-again", "POST", "/containers/c3/unpause", nil)
	g.ask(t, "image-in-use", "DELETE", "/images/busybox", nil)
	g.ask(t, "images-used", "GET", "/images/json", nil)
	g.ask(t, "published-stop", "POST", "/containers/c3/stop?t=0", nil)
	g.ask(t, "published-stop-again", "POST", "/containers/c3/stop", nil)
	g.ask(t, "published-stopped", "GET", "/containers/c3/json", nil)
	g.atRest(t)
	g.ask(t, "published-prune", "POST", "/containers/prune", nil)
}

// atRest is what a container that does not run refuses.
func (g *golden) atRest(t *testing.T) {
	t.Helper()
	g.ask(t, "stopped-kill", "POST", "/containers/c3/kill", nil)
	g.ask(t, "stopped-exec", "POST", "/containers/c3/exec", object{"Cmd": []string{"true"}})
	g.ask(t, "stopped-top", "GET", "/containers/c3/top", nil)
	g.ask(t, "stopped-pause", "POST", "/containers/c3/pause", nil)
	g.ask(t, "stopped-unpause", "POST", "/containers/c3/unpause", nil)
	g.ask(t, "stopped-resize", "POST", "/containers/c3/resize?h=1&w=1", nil)
	g.ask(t, "stopped-stats", "GET", "/containers/c3/stats?stream=false", nil)
}

// refusals are answers to requests that ask for what is not there or cannot
// be had: clients show, and tools match, their words.
func (g *golden) refusals(t *testing.T) {
	t.Helper()
	for _, r := range []struct {
		name, method, path string
		in                 any
	}{
		{"missing-start", "POST", "/containers/nothing/start", nil},
		{"missing-wait", "POST", "/containers/nothing/wait", nil},
		{"missing-remove", "DELETE", "/containers/nothing", nil},
		{"missing-archive", "GET", "/containers/nothing/archive?path=/", nil},
		{"missing-network", "GET", "/networks/nothing", nil},
		{"missing-network-connect", "POST", "/networks/nothing/connect", object{"Container": "nothing"}},
		{"missing-image-remove", "DELETE", "/images/nothing", nil},
		{"missing-image-tag", "POST", "/images/nothing/tag?repo=a", nil},
		{"missing-volume-remove", "DELETE", "/volumes/nothing", nil},
		{"missing-exec-start", "POST", "/exec/nothing/start", object{}},
		{"bad-name", "POST", "/containers/create?name=a$b", object{"Image": "busybox"}},
		{"bad-empty", "POST", "/containers/create", nil},
		{"bad-no-command", "POST", "/containers/create", object{"Image": ""}},
		{"bad-restart-policy", "POST", "/containers/create", object{"Image": "busybox", "HostConfig": object{"RestartPolicy": object{"Name": "sometimes"}}}},
		{"bad-port", "POST", "/containers/create", object{"Image": "busybox", "HostConfig": object{"PortBindings": object{"80/xyz": []object{{}}}}}},
		{"bad-bind", "POST", "/containers/create", object{"Image": "busybox", "HostConfig": object{"Binds": []string{"a:b:c:d"}}}},
		{"bad-mount", "POST", "/containers/create", object{"Image": "busybox", "HostConfig": object{"Mounts": []object{{"Type": "bind", "Source": "/nowhere/at/all", "Target": "/a"}}}}},
		{"bad-memory", "POST", "/containers/create", object{"Image": "busybox", "HostConfig": object{"Memory": 1}}},
		{"bad-signal", "POST", "/containers/nothing/kill?signal=SIGNONSENSE", nil},
		{"bad-volume-name", "POST", "/volumes/create", object{"Name": "a/b"}},
		{"bad-volume-driver", "POST", "/volumes/create", object{"Name": "a", "Driver": "nothing"}},
		{"bad-network-driver", "POST", "/networks/create", object{"Name": "a", "Driver": "nothing"}},
		{"bad-network-subnet", "POST", "/networks/create", object{"Name": "a", "IPAM": object{"Config": []object{{"Subnet": "10.0.0.0/33"}}}}},
		{"bad-network-name", "POST", "/networks/create", object{"Name": ""}},
		{"bad-tag", "POST", "/images/busybox/tag?repo=UPPER", nil},
		{"bad-pull", "POST", "/images/create?fromImage=a:b:c", nil},
		{"bad-since", "GET", "/containers/nothing/logs?stdout=1&since=yesterday", nil},
		{"bad-filters", "GET", "/events?until=1&filters=nonsense", nil},
		{"bad-method", "PATCH", "/containers/json", nil},
	} {
		g.ask(t, r.name, r.method, r.path, r.in)
	}
}
