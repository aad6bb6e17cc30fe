package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/netstack/dns"
)

// resolverAddress is where the keeper's resolver is in a sandbox.
const resolverAddress = "127.0.0.11"

// hostGateway in an extra host stands for the host.
const hostGateway = "host-gateway"

// defaultHosts begin every hosts file.
const defaultHosts = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\n" +
	"ff00::\tip6-mcastprefix\n" +
	"ff02::1\tip6-allnodes\n" +
	"ff02::2\tip6-allrouters\n"

func hostnameFile(c *Container) []byte {
	if c.Config.Hostname == "" {
		return nil
	}
	return []byte(c.Config.Hostname + "\n")
}

// hostsFile is the hosts file of a container with addresses, and lines for
// its links.
func hostsFile(c *Container, own []netip.Addr, links []hostLine) []byte {
	var b bytes.Buffer
	b.WriteString(defaultHosts)
	writeExtraHosts(&b, c, own)
	for _, l := range links {
		fmt.Fprintln(&b, l)
	}
	names := c.Config.Hostname
	if c.Config.Domainname != "" {
		names = c.Config.Hostname + "." + c.Config.Domainname + " " + c.Config.Hostname
	}
	for _, a := range own {
		if names != "" {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.Bytes()
}

// hostLine is a line of a hosts file.
type hostLine struct {
	addr  netip.Addr
	names []string
}

func (l hostLine) String() string { return l.addr.String() + "\t" + strings.Join(l.names, " ") }

// fitsHosts says whether a hosts file may have the name in a line.
func fitsHosts(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' })
}

// splitExtraHost reads "name:address" or "name=address"; the address of the
// container's host may be given as hostGateway.
func splitExtraHost(text string) (name, addr string, err error) {
	i := strings.IndexAny(text, ":=")
	if i < 0 || !fitsHosts(text[:i]) {
		return "", "", fault.InvalidArgument("bad format for add-host: %q", text)
	}
	name, addr = text[:i], strings.Trim(text[i+1:], "[]")
	if ip, err := netip.ParseAddr(addr); addr != hostGateway && (err != nil || ip.Zone() != "") {
		return "", "", fault.InvalidArgument("invalid IP address in add-host: %q", addr)
	}
	return name, addr, nil
}

// writeExtraHosts writes a line for each, and for the host's gateway one for
// each family that the container has.
func writeExtraHosts(b *bytes.Buffer, c *Container, own []netip.Addr) {
	for _, text := range c.HostConfig.ExtraHosts {
		name, addr, err := splitExtraHost(text)
		switch {
		case err != nil: // Check refuses it
		case addr != hostGateway:
			fmt.Fprintf(b, "%s\t%s\n", addr, name)
		case c.HostConfig.NetworkMode.IsHost():
			fmt.Fprintf(b, "127.0.0.1\t%s\n", name)
		default:
			fmt.Fprintf(b, "%s\t%s\n", keeper.HostGateway4, name)
			if slices.ContainsFunc(own, netip.Addr.Is6) {
				fmt.Fprintf(b, "%s\t%s\n", keeper.HostGateway6, name)
			}
		}
	}
}

// asksForHost says whether the container may reach the host's loopback.
func asksForHost(c *Container) bool {
	return slices.ContainsFunc(c.HostConfig.ExtraHosts, func(text string) bool {
		_, addr, err := splitExtraHost(text)
		return err == nil && addr == hostGateway
	})
}

// hostsOfHost is the host's own file with the container's extra hosts.
func hostsOfHost(c *Container) ([]byte, error) {
	own, err := readOptional("/etc/hosts")
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's names: %w", err)
	}
	b := bytes.NewBuffer(own)
	if len(own) > 0 && own[len(own)-1] != '\n' {
		b.WriteByte('\n')
	}
	writeExtraHosts(b, c, nil)
	return b.Bytes(), nil
}

// resolvFile is the resolv.conf of a container on networks. On the default
// network alone, resolvers that the container names are asked directly.
func resolvFile(c *Container, userDefined bool) ([]byte, error) {
	conf, err := hostConf(c)
	if err != nil {
		return nil, err
	}
	if userDefined || len(c.HostConfig.DNS) == 0 {
		conf.Servers = []netip.Addr{netip.MustParseAddr(resolverAddress)}
	}
	if userDefined && !slices.ContainsFunc(conf.Options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		conf.Options = append(conf.Options, "ndots:0")
	}
	return conf.Format(), nil
}

// resolvOfHost is the resolv.conf of a container without networks of its own:
// the host's, word by word unless the container changes it.
func resolvOfHost(c *Container) ([]byte, error) {
	if h := c.HostConfig; len(h.DNS)+len(h.DNSSearch)+len(h.DNSOptions) == 0 {
		return readOptional(hostResolvConf)
	}
	conf, err := hostConf(c)
	if err != nil {
		return nil, err
	}
	return conf.Format(), nil
}

// hostConf is the host's resolv.conf as the container changes it.
func hostConf(c *Container) (dns.ResolvConf, error) {
	b, err := readOptional(hostResolvConf)
	if err != nil {
		return dns.ResolvConf{}, fmt.Errorf("cannot read the host's resolvers: %w", err)
	}
	conf := dns.ParseResolvConf(b)
	h := c.HostConfig
	if len(h.DNS) > 0 {
		conf.Servers = h.DNS
	}
	if len(h.DNSSearch) > 0 {
		conf.Search = slices.DeleteFunc(slices.Clone(h.DNSSearch), func(s string) bool { return s == "" || s == "." })
	}
	if len(h.DNSOptions) > 0 {
		conf.Options = slices.DeleteFunc(slices.Clone(h.DNSOptions), func(s string) bool { return s == "" })
	}
	return conf, nil
}
