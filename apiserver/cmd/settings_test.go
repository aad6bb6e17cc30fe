package cmd

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/network"
	"github.com/kelp-engine/kelp/image/transfer"
)

func TestParseConfig(t *testing.T) {
	tests := []struct {
		name, file string
		want       settings
		bad        string // part of the error
	}{
		{name: "empty"},
		{name: "empty object", file: "{}"},
		{name: "data root", file: `{"data-root": "/x/../y"}`, want: settings{DataRoot: "/y"}},
		{name: "socket as URL", file: `{"socket": "unix:///s"}`, want: settings{Socket: "/s"}},
		{name: "misspelled", file: `{"data-rot": "/x"}`, bad: `unknown field "data-rot"`},
		{name: "relative data root", file: `{"data-root": "x"}`, bad: "not an absolute path"},
		{name: "relative socket", file: `{"socket": "x"}`, bad: "not an absolute path"},
		{name: "tcp", file: `{"socket": "tcp://0.0.0.0:2375"}`, bad: "unix socket only"},
		{name: "unknown level", file: `{"log-level": "loud"}`, bad: `unknown log level "loud"`},
		{name: "unknown format", file: `{"log-format": "xml"}`, bad: `unknown log format "xml"`},
		{name: "contradiction", file: `{"debug": true, "log-level": "warn"}`, bad: "contradict"},
		{name: "two objects", file: `{} {}`, bad: "more after"},
		{name: "no object", file: `[]`, bad: "cannot unmarshal"},
		{name: "wrong type", file: `{"debug": "yes"}`, bad: "cannot unmarshal"},
		{name: "networks", file: `{"bip": "10.1.0.1/16", "default-address-pools": [{"base": "10.2.0.0/16", "size": 24}], "mtu": 1400}`, want: settings{Networks: network.Defaults{
			Bridge: netip.MustParsePrefix("10.1.0.1/16"), Pools: []network.Pool{{Base: netip.MustParsePrefix("10.2.0.0/16"), Size: 24}}, MTU: 1400,
		}}},
		{name: "dockerd's firewall", file: `{"iptables": false}`, bad: `unknown field "iptables"`},
		{name: "pool that cannot be cut", file: `{"default-address-pools": [{"base": "10.2.0.0/16", "size": 8}]}`, bad: "cannot be cut into subnets of size 8"},
		{name: "pool with host bits", file: `{"default-address-pools": [{"base": "10.2.0.1/16", "size": 24}]}`, bad: "cannot be cut"},
		{name: "no pool", file: `{"default-address-pools": [{"size": 24}]}`, bad: "cannot be cut"},
		{name: "bridge without host bits", file: `{"bip": "10.1.0.0/16"}`, bad: "failed to allocate gateway (10.1.0.0)"},
		{name: "part of nothing", file: `{"fixed-cidr": "10.1.0.0/24"}`, bad: "fixed-cidr needs bip"},
		{name: "part of another", file: `{"bip": "10.1.0.1/16", "fixed-cidr": "10.2.0.0/24"}`, bad: "doesn't contain ip-range"},
		{name: "IPv6 without", file: `{"bip6": "fd00::1/64"}`, bad: "need ipv6"},
		{name: "IPv6 twice", file: `{"ipv6": true, "bip6": "fd00::1/64", "fixed-cidr-v6": "fd01::/64"}`, bad: "exclude each other"},
		{name: "IPv6 for ports", file: `{"ip": "::1"}`, bad: "must be an IPv4 address"},
		{name: "small MTU", file: `{"mtu": 9}`, bad: "invalid MTU"},
		{name: "option of an unknown driver", file: `{"default-network-opts": {"weave": {}}}`, bad: `unknown driver "weave"`},
		{name: "unknown option", file: `{"default-network-opts": {"bridge": {"colour": "red"}}}`, bad: `unknown option "colour"`},
		{name: "registries", file: `{"insecure-registries": ["r.lan:5000", "10.1.2.3/8"]}`, want: settings{Insecure: transfer.Insecure{
			Hosts: []string{"r.lan:5000"}, Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		}}},
		{name: "registry as URL", file: `{"insecure-registries": ["http://r.lan:5000"]}`, bad: `insecure registry "http://r.lan:5000" is not valid`},
		{name: "cut off", file: `{"debug"`, bad: "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseConfig([]byte(tt.file))
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Fatalf("error %v, want one with %q", err, tt.bad)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestConfiguredSettings(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	if err := os.MkdirAll(filepath.Join(dir, "config", "kelp"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config", "kelp", "config.json")
	tests := []struct {
		name, file string
		args       []string
		want       settings
		bad        string
	}{
		{name: "defaults", want: settings{DataRoot: filepath.Join(dir, "data", "kelp")}},
		{name: "file", file: `{"data-root": "/f", "log-level": "warn"}`, want: conf("/f", "", "warn")},
		{name: "flag beats file", file: `{"data-root": "/f", "log-level": "warn"}`, args: []string{"--data-root", "/g", "--log-level", "error"}, want: conf("/g", "", "error")},
		{name: "debug beats the file's level", file: `{"data-root": "/f", "log-level": "warn"}`, args: []string{"--debug"}, want: conf("/f", "", "debug")},
		{name: "short flag", args: []string{"-H", "unix:///s", "--data-root", "/g"}, want: conf("/g", "/s", "")},
		{name: "bad file", file: `{"x": 1}`, bad: file},
		{name: "named file missing", args: []string{"--config", filepath.Join(dir, "none")}, bad: "no such file"},
		{name: "contradiction", args: []string{"--debug", "--log-level", "info"}, bad: "contradict"},
		{name: "empty data root", args: []string{"--data-root", ""}, bad: "--data-root is empty"},
		{name: "empty socket", args: []string{"--socket", ""}, bad: "--socket is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := settingsOf(tt.args)
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Fatalf("error %v, want one with %q", err, tt.bad)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func conf(dataRoot, socket, level string) settings {
	s := settings{DataRoot: dataRoot, Socket: socket, dataRootGiven: true}
	s.Log.Level = level
	return s
}

// settingsOf runs a command with args and returns the settings it saw.
func settingsOf(args []string) (s settings, err error) {
	app := &cli.App{
		Flags:          settingsFlags,
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         func(c *cli.Context) error { s, err = configuredSettings(c); return nil },
	}
	if err := app.Run(append([]string{"kelp"}, args...)); err != nil {
		return s, err
	}
	return s, err
}

func TestLastWords(t *testing.T) {
	log := "time=x level=INFO msg=hello\nkelp: cannot do it: no space\ntime=y level=WARN msg=\"kelp: no\"\nkelp: really not\n"
	if got, want := lastWords(log), "cannot do it: no space\nreally not"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("old\nnew\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[int64]string{0: "old\nnew", 4: "new", 8: "", 99: "old\nnew"} {
		if got := tail(path, from); got != want {
			t.Errorf("from %d: %q, want %q", from, got, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"data-root": "/x", "socket": "unix:///s", "log-level": "warn", "debug": false}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := parseConfig(file)
		if err == nil && (s.DataRoot != "" && !filepath.IsAbs(s.DataRoot) || s.Socket != "" && !filepath.IsAbs(s.Socket)) {
			t.Errorf("%q gives %+v", file, s)
		}
	})
}
