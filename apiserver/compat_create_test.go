package apiserver

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// TestCreateOfOlderClients holds what the version history says about requests
// to create a container.
func TestCreateOfOlderClients(t *testing.T) {
	host := func(c container.CreateRequest) container.HostConfig { return *c.HostConfig }
	for _, tt := range []struct {
		name, body, since string
		read              func(container.CreateRequest) any
		before, then      any
	}{
		{
			"the client removes", `{"HostConfig":{"AutoRemove":true}}`, "1.25",
			func(c container.CreateRequest) any { return host(c).AutoRemove }, false, true,
		},
		{
			"shareable IPC", `{}`, "1.40",
			func(c container.CreateRequest) any { return host(c).IpcMode }, container.IPCModeShareable, container.IpcMode(""),
		},
		{
			"cgroup namespace", `{"HostConfig":{"CgroupnsMode":"host"}}`, "1.41",
			func(c container.CreateRequest) any { return host(c).CgroupnsMode }, container.CgroupnsModeEmpty, container.CgroupnsModeHost,
		},
		{
			"console", `{"HostConfig":{"ConsoleSize":[10,20]}}`, "1.42",
			func(c container.CreateRequest) any { return host(c).ConsoleSize },
			[2]uint{},
			[2]uint{10, 20},
		},
		{
			"start interval", `{"Healthcheck":{"StartInterval":5}}`, "1.44",
			func(c container.CreateRequest) any { return int(c.Healthcheck.StartInterval) }, 0, 5,
		},
		{
			"read-only below the root", `{"HostConfig":{"Mounts":[{"Type":"bind","ReadOnly":true,"BindOptions":{}}]}}`, "1.44",
			func(c container.CreateRequest) any { return host(c).Mounts[0].BindOptions.ReadOnlyNonRecursive }, true, false,
		},
		{
			"missing mount points", `{"HostConfig":{"Mounts":[{"Type":"bind","BindOptions":{"CreateMountpoint":true}}]}}`, "1.42",
			func(c container.CreateRequest) any { return host(c).Mounts[0].BindOptions.CreateMountpoint }, false, true,
		},
	} {
		for version, want := range map[string]any{"1.24": tt.before, previous(tt.since): tt.before, tt.since: tt.then, MaxAPIVersion: tt.then} {
			var c createRequest
			if err := json.Unmarshal([]byte(tt.body), &c); err != nil {
				t.Fatal(err)
			}
			if c.Config == nil {
				c.Config = &container.Config{}
			}
			got, _, err := c.current(at(version, ""))
			if err != nil {
				t.Fatal(err)
			}
			if tt.read(got) != want {
				t.Errorf("%s, %s: %v, want %v", tt.name, version, tt.read(got), want)
			}
		}
	}
}

// previous is the API version before another.
func previous(version string) string {
	var minor int
	_, _ = fmt.Sscanf(version, "1.%d", &minor)
	return fmt.Sprintf("1.%d", minor-1)
}

func TestMacAddressOfTheContainer(t *testing.T) {
	address := network.HardwareAddr{2, 0x42, 0, 0, 0, 1}
	for version, want := range map[string]struct {
		refused bool
		warned  int
	}{"1.43": {}, "1.44": {warned: 1}, "1.51": {warned: 1}, "1.52": {refused: true}} {
		c := createRequest{MacAddress: address}
		req, warnings, err := c.current(at(version, ""))
		if (err != nil) != want.refused || len(warnings) != want.warned {
			t.Errorf("%s: %q, %v", version, warnings, err)
		}
		if err == nil && req.NetworkingConfig.EndpointsConfig["bridge"].MacAddress.String() != address.String() {
			t.Errorf("%s: %v", version, req.NetworkingConfig)
		}
	}
	c := createRequest{MacAddress: address, CreateRequest: container.CreateRequest{NetworkingConfig: &network.NetworkingConfig{
		EndpointsConfig: map[string]*network.EndpointSettings{"bridge": {MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}}},
	}}}
	if _, _, err := c.current(at("1.43", "")); err == nil {
		t.Error("two different addresses are taken")
	}
}
