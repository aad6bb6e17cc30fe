package docker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

type fakeServer struct {
	version string
	info    command.ServerInfo
	asked   bool
}

func (f *fakeServer) CurrentVersion() string         { f.asked = true; return f.version }
func (f *fakeServer) ServerInfo() command.ServerInfo { f.asked = true; return f.info }

// annotated returns `docker thing sub` with annotations on thing and on the
// flag --new.
func annotated(onCommand, onFlag map[string]string) *cobra.Command {
	root := &cobra.Command{Use: "docker"}
	thing := &cobra.Command{Use: "thing", Annotations: onCommand}
	sub := &cobra.Command{Use: "sub", Run: func(*cobra.Command, []string) {}}
	sub.Flags().Bool("new", false, "")
	for k, v := range onFlag {
		_ = sub.Flags().SetAnnotation("new", k, []string{v})
	}
	root.AddCommand(thing)
	thing.AddCommand(sub)
	return sub
}

func TestSupports(t *testing.T) {
	linux := command.ServerInfo{OSType: "linux"}
	tests := []struct {
		name            string
		command, flag   map[string]string
		changed         bool
		version         string
		info            command.ServerInfo
		want            string
		mustNotAskAtAll bool
	}{
		{name: "nothing annotated", changed: true, mustNotAskAtAll: true},
		{name: "flag not given", flag: map[string]string{"version": "1.99"}, mustNotAskAtAll: true},
		{name: "new flag, old server", flag: map[string]string{"version": "1.50"}, changed: true, version: "1.49", want: `"--new" requires API version 1.50`},
		{name: "new flag, new server", flag: map[string]string{"version": "1.50"}, changed: true, version: "1.50"},
		{name: "new parent, old server", command: map[string]string{"version": "1.50"}, version: "1.9", want: "docker thing sub requires API version 1.50"},
		{name: "windows command", command: map[string]string{"ostype": "windows"}, info: linux, want: "running on windows"},
		{name: "windows flag", flag: map[string]string{"ostype": "windows"}, changed: true, info: linux, want: "running on windows"},
		{name: "unknown server", command: map[string]string{"ostype": "windows"}},
		{name: "experimental command", command: map[string]string{"experimental": ""}, want: "experimental"},
		{name: "experimental flag", flag: map[string]string{"experimental": ""}, changed: true, want: "experimental"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd, s := annotated(tt.command, tt.flag), &fakeServer{version: tt.version, info: tt.info}
			if tt.changed {
				if err := cmd.Flags().Set("new", "true"); err != nil {
					t.Fatal(err)
				}
			}
			err := supports(cmd, s)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if tt.mustNotAskAtAll && s.asked {
				t.Error("it asked the server, which connects")
			}
		})
	}
}

func TestOutsideSwarm(t *testing.T) {
	in := func(state swarm.LocalNodeState, manager bool) command.ServerInfo {
		return command.ServerInfo{SwarmStatus: &client.SwarmStatus{NodeState: state, ControlAvailable: manager}}
	}
	tests := []struct {
		info command.ServerInfo
		role string
		want bool
	}{
		{command.ServerInfo{}, "manager", false},
		{in("inactive", false), "manager", true},
		{in("active", false), "manager", true},
		{in("active", true), "manager", false},
		{in("inactive", false), "active", true},
		{in("active", false), "active", false},
		{in("inactive", false), "", false},
	}
	for _, tt := range tests {
		if got := outsideSwarm(tt.info, tt.role); got != tt.want {
			t.Errorf("%+v, %q: %v", tt.info.SwarmStatus, tt.role, got)
		}
	}
}

func TestReport(t *testing.T) {
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{cli.StatusError{StatusCode: 125}, 125},
		{fmt.Errorf("x: %w", cli.StatusError{StatusCode: 7}), 7},
		{cli.StatusError{}, 1},
		{errdefs.ErrNotFound, 1},
	}
	for _, tt := range tests {
		if got := report(tt.err); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}
