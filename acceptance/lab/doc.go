// Package lab is a small internet inside one machine: hosts, LANs, routers and
// NATs of each kind in Linux network namespaces, without root.
//
//	              internet (core)
//	     203.0.113.254 on every link, routes /32s
//	     │                 │                 │
//	203.0.113.1       203.0.113.2       203.0.113.3
//	  server            router a          router b
//	                  192.168.1.1       192.168.2.1
//	                  ┌────┴────┐            │
//	             192.168.1.10  .11      192.168.2.10
//	               alice      anna         bob
//
// Every box is a namespace, every line a pair of veth interfaces; LANs are
// bridges inside their router. Each host has its interface named eth0; a router
// has wan and lan. Links of the internet have no network of their own
// (addresses are /32), so two hosts are never neighbours by accident.
//
// A test binary enters the lab in its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }
//
// Main starts the binary again in new user, network, mount and PID namespaces
// with one uid and one gid mapped. All processes of the lab end with it, and
// nothing of it can be seen from outside. Where the kernel does not allow this,
// New skips the test with the reason, and Main counts the skips at the end.
//
// The lab needs the tools ip, nft and nsenter.
package lab

// A NAT is how a router translates the addresses of its LAN. The first word of
// RFC 4787 is the mapping (section 4.1), the second the filtering (section 5):
//
//	kind               mapping                     filtering
//	None               routed, not translated      none
//	FullCone           endpoint-independent        endpoint-independent
//	AddressRestricted  endpoint-independent        address-dependent
//	PortRestricted     endpoint-independent        address and port-dependent
//	Symmetric          address and port-dependent  address and port-dependent
//	CarrierGrade       endpoint-independent        address and port-dependent
//	Hairpin            endpoint-independent        endpoint-independent
//
// The LAN of CarrierGrade is in 100.64.0.0/10 (RFC 6598), those of the others
// in 192.168.0.0/16. Hairpin leads what the LAN sends to a mapped address back
// inside (RFC 4787, section 6); at the others that is lost.
type NAT string

// The kinds of NAT.
const (
	None              NAT = "none"
	FullCone          NAT = "full-cone"
	AddressRestricted NAT = "address-restricted"
	PortRestricted    NAT = "port-restricted"
	Symmetric         NAT = "symmetric"
	CarrierGrade      NAT = "carrier-grade"
	Hairpin           NAT = "hairpin"
)

// Kinds lists the NATs that differ in mapping or filtering, the easiest first.
var Kinds = []NAT{None, FullCone, AddressRestricted, PortRestricted, Symmetric}
