package tunnel

import (
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernelLink is the kind of an interface that is WireGuard of the kernel.
const kernelLink = "wireguard"

// addLink makes an interface of a kind (rtnetlink(7)). netlink.LinkAdd would do it too, and with it comes the code
// for some thirty other kinds.
func addLink(name, kind string, mtu int) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	request.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	attributes := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	attributes.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	request.AddData(attributes)
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// removeLink removes an interface; one that is gone is none.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
