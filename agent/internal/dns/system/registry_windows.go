package system

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/windows"
	winregistry "golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// hostRegistry is the registry of this machine below HKEY_LOCAL_MACHINE.
type hostRegistry struct{}

// Keys returns the names of the keys below one.
func (hostRegistry) Keys(path string) (names []string, err error) {
	key, err := winregistry.OpenKey(winregistry.LOCAL_MACHINE, path, winregistry.ENUMERATE_SUB_KEYS)
	if errors.Is(err, winregistry.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, atKey("read", path, err)
	}
	names, err = key.ReadSubKeyNames(-1)
	return names, atKey("read", path, errors.Join(err, key.Close()))
}

// Text returns a text.
func (hostRegistry) Text(path, name string) (text string, found bool, err error) {
	key, err := winregistry.OpenKey(winregistry.LOCAL_MACHINE, path, winregistry.QUERY_VALUE)
	if errors.Is(err, winregistry.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, atKey("read", path, err)
	}
	text, _, err = key.GetStringValue(name)
	if errors.Is(err, winregistry.ErrNotExist) {
		return "", false, key.Close()
	}
	return text, err == nil, atKey("read", path, errors.Join(err, key.Close()))
}

// Set makes a key and sets values of it.
func (hostRegistry) Set(path string, values map[string]any) error {
	key, _, err := winregistry.CreateKey(winregistry.LOCAL_MACHINE, path, winregistry.SET_VALUE)
	if err != nil {
		return atKey("make", path, err)
	}
	for name, value := range values {
		switch value := value.(type) {
		case uint32:
			err = key.SetDWordValue(name, value)
		case string:
			err = key.SetStringValue(name, value)
		case []string:
			err = key.SetStringsValue(name, value)
		default:
			if err = key.DeleteValue(name); errors.Is(err, winregistry.ErrNotExist) {
				err = nil
			}
		}
		if err != nil {
			break
		}
	}
	return atKey("set", path, errors.Join(err, key.Close()))
}

// Remove takes a key away.
func (hostRegistry) Remove(path string) error {
	err := winregistry.DeleteKey(winregistry.LOCAL_MACHINE, path)
	if errors.Is(err, winregistry.ErrNotExist) {
		return nil
	}
	return atKey("remove", path, err)
}

func atKey(what, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(`%s HKLM\%s in the registry: %w`, what, path, err)
}

// hostAdapters are the interfaces of this machine.
type hostAdapters struct{}

// GUID returns the id of an interface.
func (hostAdapters) GUID(name string) (string, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("look for the interface %s: %w", name, err)
	}
	luid, err := winipcfg.LUIDFromIndex(uint32(link.Index))
	if err != nil {
		return "", fmt.Errorf("look for the interface %s: %w", name, err)
	}
	guid, err := luid.GUID()
	if err != nil {
		return "", fmt.Errorf("look for the interface %s: %w", name, err)
	}
	return guid.String(), nil
}

// siteLocal are the addresses that Windows lists where no server is set for IPv6;
// nobody answers there.
var siteLocal = netip.MustParsePrefix("fec0:0:0:ffff::/64")

// Former returns what the interfaces that are up ask, those that Windows prefers
// first.
func (hostAdapters) Former(except string) (Former, error) {
	list, err := winipcfg.GetAdaptersAddresses(windows.AF_UNSPEC, winipcfg.GAAFlagDefault)
	if err != nil {
		return Former{}, fmt.Errorf("read the name servers of the interfaces: %w", err)
	}
	slices.SortStableFunc(list, func(a, b *winipcfg.IPAdapterAddresses) int { return int(a.Ipv4Metric) - int(b.Ipv4Metric) })
	var former Former
	for _, adapter := range list {
		if adapter.OperStatus != winipcfg.IfOperStatusUp || adapter.IfType == winipcfg.IfTypeSoftwareLoopback || adapter.FriendlyName() == except {
			continue
		}
		for server := adapter.FirstDNSServerAddress; server != nil; server = server.Next {
			addr, ok := netip.AddrFromSlice(server.Address.IP())
			at := netip.AddrPortFrom(addr.Unmap(), namePort)
			if ok && !siteLocal.Contains(addr) && !slices.Contains(former.Servers, at) {
				former.Servers = append(former.Servers, at)
			}
		}
		if suffix := adapter.DNSSuffix(); suffix != "" && !slices.Contains(former.Search, suffix) {
			former.Search = append(former.Search, suffix)
		}
	}
	return former, nil
}

// Watch sends when a value of an interface changes in the registry.
func (hostAdapters) Watch(ctx context.Context, events chan<- struct{}) (err error) {
	key, err := winregistry.OpenKey(winregistry.LOCAL_MACHINE, interfaces, winregistry.NOTIFY)
	if err != nil {
		return atKey("watch", interfaces, err)
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	changed, err := windows.CreateEvent(nil, 0, 0, nil) // resets by itself
	if err != nil {
		return fmt.Errorf("watch the interfaces: %w", err)
	}
	defer func() { err = errors.Join(err, windows.CloseHandle(changed)) }()
	ended, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return fmt.Errorf("watch the interfaces: %w", err)
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = windows.SetEvent(ended); close(told) })
	defer func() {
		if !stop() {
			<-told // before its handle is closed
		}
		err = errors.Join(err, windows.CloseHandle(ended))
	}()
	for {
		// Told once for each call, and asked before events, so that nothing is missed.
		if err := windows.RegNotifyChangeKeyValue(windows.Handle(key), true, windows.REG_NOTIFY_CHANGE_LAST_SET|windows.REG_NOTIFY_THREAD_AGNOSTIC, changed, true); err != nil {
			return atKey("watch", interfaces, err)
		}
		select {
		case events <- struct{}{}:
		default:
		}
		at, err := windows.WaitForMultipleObjects([]windows.Handle{ended, changed}, false, windows.INFINITE)
		if err != nil {
			return fmt.Errorf("watch the interfaces: %w", err)
		}
		if at == windows.WAIT_OBJECT_0 {
			return nil
		}
	}
}

// flushCache forgets the answers that the resolver of the machine remembers.
var flushCache = windows.NewLazySystemDLL("dnsapi.dll").NewProc("DnsFlushResolverCache")

// Refresh tells the service that answers programs of its parameters, and empties
// its memory.
func (hostAdapters) Refresh() (err error) {
	manager, err := mgr.Connect()
	if err != nil {
		return fmt.Errorf("tell the DNS client of the new rules: %w", err)
	}
	defer func() { err = errors.Join(err, manager.Disconnect()) }()
	service, err := manager.OpenService("Dnscache")
	if err != nil {
		return fmt.Errorf("tell the DNS client of the new rules: %w", err)
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	if _, err := service.Control(svc.ParamChange); err != nil {
		return fmt.Errorf("tell the DNS client of the new rules: %w", err)
	}
	if err := flushCache.Find(); err == nil {
		_, _, _ = flushCache.Call() // what it remembers lives minutes at most
	}
	return nil
}
