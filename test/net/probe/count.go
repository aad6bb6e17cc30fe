package main

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// count prints how many links, routes, addresses and packet rules the network
// namespace has.
func count([]string) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		fmt.Println(l.Type(), 1)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	fmt.Println("routes", len(routes))
	c, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := c.ListChains()
	if err != nil {
		return err
	}
	rules := 0
	for _, chain := range chains {
		all, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return err
		}
		rules += len(all)
	}
	fmt.Println("chains", len(chains))
	fmt.Println("rules", rules)
	return nil
}

// cut removes the links that are named, of those that are there.
func cut(names []string) error {
	for _, name := range names {
		l, err := netlink.LinkByName(name)
		if err != nil {
			continue
		}
		if err := netlink.LinkDel(l); err != nil {
			return err
		}
		fmt.Println("cut", name)
	}
	return nil
}
