package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func checkNetworks(f Facts) Result {
	switch {
	case f.Mounts.Namespace != nil:
		return fail("not tried: there is no user namespace", "see user namespaces")
	case f.Network.Devices != nil:
		return fail("cannot be made: "+f.Network.Devices.Error()+"; --network none and host work", "ask the administrator to run: modprobe -a bridge veth af_packet")
	}
	return pass("bridges and their ways out can be made")
}

func checkRules(f Facts) Result {
	switch {
	case f.Mounts.Namespace != nil || f.Network.Devices != nil:
		return fail("not tried: there are no networks", "see networks")
	case f.Network.Rules != nil:
		return warn("missing ("+f.Network.Rules.Error()+"): traffic stays in user space, which is slower, and containers see the gateway's address instead of their clients'",
			"ask the administrator to run: modprobe -a nf_tables nft_tproxy nft_socket nft_nat")
	}
	return pass("nftables has tproxy, socket and dnat")
}

func checkGuard(f Facts) Result {
	switch {
	case f.Mounts.Namespace != nil || f.Network.Devices != nil:
		return fail("not tried: there are no networks", "see networks")
	case f.Network.Guard != nil:
		return warn("cannot be held ("+f.Network.Guard.Error()+"): containers of one network can send under each other's",
			"ask the administrator to run: modprobe nf_tables; the kernel needs CONFIG_NF_TABLES_BRIDGE")
	}
	return pass("containers send under their own alone")
}

func checkDrivers(f Facts) Result {
	var there, missing, modules []string
	for _, d := range []struct {
		name, module string
		err          error
	}{
		{"macvlan", "macvlan", f.Network.Macvlan}, {"ipvlan", "ipvlan", f.Network.Ipvlan}, {"SCTP ports", "sctp", f.Network.SCTP},
	} {
		if d.err == nil {
			there = append(there, d.name)
			continue
		}
		missing, modules = append(missing, d.name), append(modules, d.module)
	}
	switch {
	case f.Mounts.Namespace != nil || f.Network.Devices != nil:
		return fail("not tried: there are no networks", "see networks")
	case len(missing) > 0:
		return warn("the kernel has no "+strings.Join(missing, ", ")+": they are refused", "only who needs them: ask the administrator to run: modprobe -a "+strings.Join(modules, " "))
	}
	return pass("the kernel has " + strings.Join(there, ", "))
}

func checkPing(f Facts) Result {
	fields := strings.Fields(f.Sysctls[sysctlPing])
	if len(fields) == 2 {
		first, _ := strconv.Atoi(fields[0])
		last, _ := strconv.Atoi(fields[1])
		if slices.ContainsFunc(f.Groups, func(gid int) bool { return first <= gid && gid <= last }) {
			return pass("containers can ping the outside")
		}
	}
	return warn(fmt.Sprintf("containers cannot ping the outside: your groups are not in net.ipv4.ping_group_range (%s)", strings.Join(fields, " to ")),
		sysctlRemedy("net.ipv4.ping_group_range='0 2147483647'"))
}

// fewPorts is less than a busy machine needs: each outgoing connection and
// each published port that is not chosen takes one.
const fewPorts = 10000

func checkPorts(f Facts) Result {
	first, err := strconv.Atoi(f.Sysctls[sysctlPorts])
	if err != nil {
		first = 1024
	}
	detail := fmt.Sprintf("from %d on may be published (net.ipv4.ip_unprivileged_port_start)", first)
	fields := strings.Fields(f.Sysctls[sysctlRange])
	if len(fields) != 2 {
		return pass(detail)
	}
	low, _ := strconv.Atoi(fields[0])
	high, _ := strconv.Atoi(fields[1])
	detail += fmt.Sprintf(", random ones are %d to %d", low, high)
	if high-low < fewPorts {
		return warn(detail+": they may run out", sysctlRemedy("net.ipv4.ip_local_port_range='32768 60999'"))
	}
	if first > 80 {
		detail += "; the administrator may lower it: sysctl -w net.ipv4.ip_unprivileged_port_start=80"
	}
	return pass(detail)
}
