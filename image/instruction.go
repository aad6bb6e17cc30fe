package image

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
)

// ApplyChanges edits a run configuration by Dockerfile instructions, as the
// parameter `changes` of commit and import has them.
func ApplyChanges(c *container.Config, changes []string) error {
	for _, text := range changes {
		for line := range strings.SplitSeq(text, "\n") {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := applyInstruction(c, line); err != nil {
				return err
			}
		}
	}
	return nil
}

var instructions = map[string]func(c *container.Config, args string) error{
	"CMD":         func(c *container.Config, args string) error { c.Cmd = command(args); return nil },
	"ENTRYPOINT":  func(c *container.Config, args string) error { c.Entrypoint = command(args); return nil },
	"ENV":         setEnv,
	"EXPOSE":      expose,
	"HEALTHCHECK": setHealthcheck,
	"LABEL":       setLabels,
	"ONBUILD":     func(c *container.Config, args string) error { c.OnBuild = append(c.OnBuild, args); return nil },
	"STOPSIGNAL":  func(c *container.Config, args string) error { c.StopSignal = args; return nil },
	"USER":        func(c *container.Config, args string) error { c.User = args; return nil },
	"VOLUME":      addVolumes,
	"WORKDIR":     setWorkdir,
}

func applyInstruction(c *container.Config, line string) error {
	name, args, _ := strings.Cut(line, " ")
	name, args = strings.ToUpper(name), strings.TrimSpace(args)
	apply, ok := instructions[name]
	if !ok {
		return fault.InvalidArgument("%s is not a valid change command", name)
	}
	if args == "" {
		return fault.InvalidArgument("%s requires at least one argument", name)
	}
	return apply(c, args)
}

// command reads the JSON form, or else the shell form.
func command(args string) []string {
	if list, ok := jsonList(args); ok {
		return list
	}
	return []string{"/bin/sh", "-c", args}
}

func jsonList(args string) ([]string, bool) {
	var list []string
	if !strings.HasPrefix(args, "[") || json.Unmarshal([]byte(args), &list) != nil {
		return nil, false
	}
	return list, true
}

func setEnv(c *container.Config, args string) error {
	pairs, err := keyValues("ENV", args)
	if err != nil {
		return err
	}
	for _, kv := range pairs {
		c.Env = mergeEnv([]string{kv[0] + "=" + kv[1]}, c.Env)
	}
	return nil
}

func setLabels(c *container.Config, args string) error {
	pairs, err := keyValues("LABEL", args)
	if err != nil {
		return err
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	for _, kv := range pairs {
		c.Labels[kv[0]] = kv[1]
	}
	return nil
}

// keyValues reads `key=value …` or the older `key value`.
func keyValues(instruction, args string) ([][2]string, error) {
	words, err := splitWords(args)
	if err != nil {
		return nil, fault.InvalidArgument("%s: %w", instruction, err)
	}
	if !strings.Contains(words[0], "=") {
		key, value, ok := strings.Cut(args, " ")
		if !ok {
			return nil, fault.InvalidArgument("%s must have two arguments", instruction)
		}
		return [][2]string{{key, strings.TrimSpace(value)}}, nil
	}
	var pairs [][2]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fault.InvalidArgument("syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		if key == "" {
			return nil, fault.InvalidArgument("%s names can not be blank", instruction)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

// splitWords splits at blanks outside quotes; a backslash takes the next
// character as it is.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fault.InvalidArgument("a quote or backslash is left open in %q", s)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

func expose(c *container.Config, args string) error {
	if c.ExposedPorts == nil {
		c.ExposedPorts = network.PortSet{}
	}
	for _, text := range strings.Fields(args) {
		r, err := network.ParsePortRange(text)
		if err != nil {
			return fault.InvalidArgument("EXPOSE: invalid containerPort: %s", text)
		}
		for p := range r.All() {
			c.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

func addVolumes(c *container.Config, args string) error {
	list, ok := jsonList(args)
	if !ok {
		list = strings.Fields(args)
	}
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, v := range list {
		if v = strings.TrimSpace(v); v == "" {
			return fault.InvalidArgument("VOLUME specified can not be an empty string")
		}
		c.Volumes[v] = struct{}{}
	}
	return nil
}

func setWorkdir(c *container.Config, args string) error {
	if !strings.HasPrefix(args, "/") {
		args = strings.TrimSuffix("/"+strings.Trim(c.WorkingDir, "/"), "/") + "/" + args
	}
	c.WorkingDir = args
	return nil
}

func setHealthcheck(c *container.Config, args string) error {
	h := &container.HealthConfig{}
	for strings.HasPrefix(args, "--") {
		var flag string
		flag, args, _ = strings.Cut(args, " ")
		args = strings.TrimSpace(args)
		if err := setHealthFlag(h, flag); err != nil {
			return err
		}
	}
	kind, test, _ := strings.Cut(args, " ")
	test = strings.TrimSpace(test)
	switch strings.ToUpper(kind) {
	case "NONE":
		h.Test = []string{"NONE"}
	case "CMD":
		if list, ok := jsonList(test); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else if test != "" {
			h.Test = []string{"CMD-SHELL", test}
		} else {
			return fault.InvalidArgument("missing command after HEALTHCHECK CMD")
		}
	default:
		return fault.InvalidArgument("unknown type %q in HEALTHCHECK (try CMD)", kind)
	}
	c.Healthcheck = h
	return nil
}

func setHealthFlag(h *container.HealthConfig, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	var err error
	switch name {
	case "--interval":
		h.Interval, err = time.ParseDuration(value)
	case "--timeout":
		h.Timeout, err = time.ParseDuration(value)
	case "--start-period":
		h.StartPeriod, err = time.ParseDuration(value)
	case "--start-interval":
		h.StartInterval, err = time.ParseDuration(value)
	case "--retries":
		err = json.Unmarshal([]byte(value), &h.Retries)
	default:
		return fault.InvalidArgument("unknown flag %s of HEALTHCHECK", name)
	}
	if err != nil {
		return fault.InvalidArgument("HEALTHCHECK %s: %w", flag, err)
	}
	return nil
}
