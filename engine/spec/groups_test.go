package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

func TestKeptGroups(t *testing.T) {
	for name, edit := range map[string]func(*container.HostConfig){
		"podman's word":     func(hc *container.HostConfig) { hc.GroupAdd = []string{"keep-groups"} },
		"said twice":        func(hc *container.HostConfig) { hc.GroupAdd = []string{"keep-groups", "keep-groups"} },
		"crun's annotation": func(hc *container.HostConfig) { hc.Annotations = map[string]string{keeper.KeepGroups: "1"} },
	} {
		in := testInput(t)
		edit(in.HostConfig)
		if err := checkGroups(in.HostConfig); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s, err := Build(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.Annotations[keeper.KeepGroups] != "1" || s.Process.User.AdditionalGids != nil {
			t.Errorf("%s: annotations %v, groups %v", name, s.Annotations, s.Process.User.AdditionalGids)
		}
		p, err := Process(Exec{Config: in.Config, HostConfig: in.HostConfig, Rootfs: in.Rootfs, Host: in.Host, Request: container.ExecCreateRequest{Cmd: []string{"id"}}})
		if err != nil || p.User.AdditionalGids != nil {
			t.Errorf("%s: exec has groups %v, %v", name, p.User.AdditionalGids, err)
		}
		in.HostConfig.GroupAdd = append(in.HostConfig.GroupAdd, "5")
		if err := checkGroups(in.HostConfig); err == nil || !strings.Contains(err.Error(), "cannot be combined") {
			t.Errorf("%s: with another group: %v", name, err)
		}
	}
	in := testInput(t)
	in.HostConfig.Annotations = map[string]string{keeper.KeepGroups: "0"}
	if s, err := Build(in); err != nil || s.Process.User.AdditionalGids == nil {
		t.Errorf("not asked for: %+v, %v", s, err)
	}
}

// TestGroupsOfTheHost holds that whoever means a group of the host learns how
// to get it.
func TestGroupsOfTheHost(t *testing.T) {
	h := Host{MaxID: 65536, User: IDs{1000, 100}, Groups: []uint32{27, 100000}}
	for name, tt := range map[string]struct {
		group, mode string
		warned      bool
		hint        string
	}{
		"number that the container has as well": {group: "27", warned: true},
		"the same with keep-id":                 {group: "27", mode: "keep-id", warned: true},
		"number kept with keep-id":              {group: "27", mode: "keep-id:gid=27"},
		"number of nobody":                      {group: "28"},
		"name in the image":                     {group: "mail"},
		"name elsewhere":                        {group: "project", hint: "--group-add keep-groups"},
		"number that only the host has":         {group: "100000", hint: "--group-add keep-groups"},
		"number that nothing has":               {group: "100001", hint: "administrator"},
	} {
		in := testInput(t)
		in.Host.MaxID, in.Host.User, in.Host.Groups = h.MaxID, h.User, h.Groups
		in.HostConfig.GroupAdd, in.HostConfig.UsernsMode = []string{tt.group}, container.UsernsMode(tt.mode)
		warnings := warnGroups(in.HostConfig, in.Host)
		if warned := slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "--group-add keep-groups") }); warned != tt.warned {
			t.Errorf("%s: warnings %v", name, warnings)
		}
		_, err := Build(in)
		if hint := fault.HintOf(err); (err == nil) != (tt.hint == "") || !strings.Contains(hint, tt.hint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
