package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
)

// InitPath is where `--init` shows its program in the container.
const InitPath = "/sbin/docker-init"

// defaultPath is PATH of a process whose image and client set none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Exec is what POST /containers/{id}/exec asks for and what it is run in.
type Exec struct {
	Request    container.ExecCreateRequest
	Config     *container.Config
	HostConfig *container.HostConfig
	// Rootfs is the running container's root, /proc/PID/root, so that files
	// mounted over /etc/passwd count.
	Rootfs string
	Host   Host
}

// Args is the command line of a container: its entrypoint, then its command.
func Args(c *container.Config) []string { return slices.Concat(c.Entrypoint, c.Cmd) }

// initProcess describes the container's first process.
func initProcess(in Input) (*specs.Process, error) {
	args := Args(in.Config)
	if len(args) == 0 {
		return nil, fault.InvalidArgument("no command specified")
	}
	if in.HostConfig.Init != nil && *in.HostConfig.Init {
		args = slices.Concat([]string{InitPath, "--"}, args)
	}
	env := mergeEnv(append(baseEnv(in.Config.Hostname, in.Config.Tty), in.Env...), in.Config.Env)
	user, err := UserOf(in.Config.User, in.HostConfig, in.Host)
	if err != nil {
		return nil, err
	}
	p, err := newProcess(in.Rootfs, user, in.HostConfig, env, in.Host)
	if err != nil {
		return nil, err
	}
	p.Args = args
	p.Terminal = in.Config.Tty
	p.Cwd = workdir(in.Config.WorkingDir)
	p.User.Umask = in.HostConfig.Umask
	p.NoNewPrivileges = noNewPrivileges(in.HostConfig)
	if p.Capabilities, err = capabilities(in.HostConfig, in.HostConfig.Privileged, p.User.UID, in.Host); err != nil {
		return nil, err
	}
	p.Rlimits = rlimits(in.HostConfig.Ulimits)
	p.OOMScoreAdj = oomScoreAdj(in.HostConfig, in.Host)
	if h, w := in.HostConfig.ConsoleSize[0], in.HostConfig.ConsoleSize[1]; p.Terminal && h > 0 && w > 0 {
		p.ConsoleSize = &specs.Box{Height: h, Width: w}
	}
	return p, nil
}

// Process describes a process to run in a running container.
func Process(x Exec) (*specs.Process, error) {
	if len(x.Request.Cmd) == 0 {
		return nil, fault.InvalidArgument("no exec command specified")
	}
	if err := CheckEnv(x.Request.Env); err != nil {
		return nil, err
	}
	env := mergeEnv(baseEnv(x.Config.Hostname, x.Request.Tty), x.Config.Env)
	env = mergeEnv(env, x.Request.Env)
	user := x.Request.User
	if user == "" {
		user = x.Config.User
	}
	user, err := UserOf(user, x.HostConfig, x.Host)
	if err != nil {
		return nil, err
	}
	p, err := newProcess(x.Rootfs, user, x.HostConfig, env, x.Host)
	if err != nil {
		return nil, err
	}
	p.Args = x.Request.Cmd
	p.Terminal = x.Request.Tty
	p.Cwd = workdir(x.Config.WorkingDir)
	if dir := x.Request.WorkingDir; dir != "" {
		if !path.IsAbs(dir) {
			return nil, fault.InvalidArgument("the working directory %q is invalid, it needs to be an absolute path", dir)
		}
		p.Cwd = path.Clean(dir)
	}
	p.User.Umask = x.HostConfig.Umask
	p.NoNewPrivileges = noNewPrivileges(x.HostConfig)
	privileged := x.Request.Privileged || x.HostConfig.Privileged
	if p.Capabilities, err = capabilities(x.HostConfig, privileged, p.User.UID, x.Host); err != nil {
		return nil, err
	}
	p.Rlimits = rlimits(x.HostConfig.Ulimits)
	p.OOMScoreAdj = oomScoreAdj(x.HostConfig, x.Host)
	if s := x.Request.ConsoleSize; p.Terminal && s != nil && s[0] > 0 && s[1] > 0 {
		p.ConsoleSize = &specs.Box{Height: s[0], Width: s[1]}
	}
	if !x.Request.Privileged {
		p.ApparmorProfile, err = apparmor(x.HostConfig, x.Host)
	}
	return p, err
}

// newProcess fills in what depends on the user, and HOME with it.
func newProcess(rootfs, user string, hc *container.HostConfig, env []string, h Host) (*specs.Process, error) {
	kept := keepsGroups(hc)
	groups := hc.GroupAdd
	if kept {
		groups = nil
	}
	id, err := lookUser(rootfs, user, groups)
	if err != nil {
		return nil, err
	}
	if kept {
		id.groups = nil
	}
	if err := checkMapped(id, h); err != nil {
		return nil, err
	}
	if !hasEnv(env, "HOME") {
		env = append(env, "HOME="+id.home)
	}
	return &specs.Process{
		User: specs.User{UID: id.uid, GID: id.gid, AdditionalGids: id.groups},
		Env:  env,
	}, nil
}

// baseEnv is the environment before the image's and the client's.
func baseEnv(hostname string, tty bool) []string {
	env := []string{defaultPath, "HOSTNAME=" + hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return env
}

// mergeEnv puts the variables of more over those of base, each where its name
// first stood. A name without "=" takes the variable away.
func mergeEnv(base, more []string) []string {
	out := slices.Clone(base)
	for _, kv := range more {
		name, _, set := strings.Cut(kv, "=")
		i := slices.IndexFunc(out, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		switch {
		case set && i >= 0:
			out[i] = kv
		case set:
			out = append(out, kv)
		case i >= 0:
			out = slices.Delete(out, i, i+1)
		}
	}
	return out
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

func workdir(dir string) string {
	if dir == "" {
		return "/"
	}
	return path.Join("/", dir)
}
