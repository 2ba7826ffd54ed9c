package netmap

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wattlenet/wattle/generated/api"
)

const (
	worldZones       = 3
	worldRecords     = 4
	worldNameservers = 2
)

// namedWorld is the DNS of a world.
type namedWorld struct {
	zones       map[string]Zone
	records     map[string]Record
	nameservers map[string]Nameserver
	unmanaged   []string
}

func newNamedWorld() namedWorld {
	return namedWorld{zones: map[string]Zone{}, records: map[string]Record{}, nameservers: map[string]Nameserver{}}
}

func (n namedWorld) add(a *Account) {
	for _, id := range slices.Sorted(maps.Keys(n.zones)) {
		a.Zones = append(a.Zones, n.zones[id])
	}
	for _, id := range slices.Sorted(maps.Keys(n.records)) {
		a.Records = append(a.Records, n.records[id])
	}
	for _, id := range slices.Sorted(maps.Keys(n.nameservers)) {
		a.Nameservers = append(a.Nameservers, n.nameservers[id])
	}
	a.Unmanaged = n.unmanaged
}

func (a Account) namedChanges() (changes []Change) {
	changes = append(changes, DNSSettingsPut{a.Unmanaged})
	for _, z := range a.Zones {
		changes = append(changes, ZonePut{z})
	}
	for _, r := range a.Records {
		changes = append(changes, RecordPut{r})
	}
	for _, n := range a.Nameservers {
		changes = append(changes, NameserverPut{n})
	}
	return changes
}

// changeNamed changes the DNS. The groups that it names need not exist.
func (w *world) changeNamed() Change {
	zone := fmt.Sprintf("z%d", w.random.IntN(worldZones))
	record := fmt.Sprintf("%s-r%d", zone, w.random.IntN(worldRecords))
	nameserver := fmt.Sprintf("n%d", w.random.IntN(worldNameservers))
	switch pick := w.random.IntN(14); {
	case pick < 3 || w.named.zones[zone].ID == "" && pick < 9:
		z := Zone{ID: zone, Domain: zone + ".example", Search: w.random.IntN(2) == 0, Groups: w.anyGroups()}
		w.named.zones[zone] = z
		return ZonePut{z}
	case pick < 7:
		r := Record{ID: record, Zone: zone, Name: "a." + zone + ".example", Type: "A", Content: fmt.Sprintf("192.0.2.%d", w.random.IntN(3)), TTL: 60}
		w.named.records[record] = r
		return RecordPut{r}
	case pick < 9:
		delete(w.named.records, record)
		return RecordRemove{record}
	case pick < 10:
		delete(w.named.zones, zone)
		maps.DeleteFunc(w.named.records, func(_ string, r Record) bool { return r.Zone == zone })
		return ZoneRemove{zone}
	case pick < 12:
		n := Nameserver{ID: nameserver, Servers: []api.Nameserver{{Ip: "192.0.2.53", NsType: api.NameserverNsTypeUdp, Port: 53}}, Search: w.random.IntN(2) == 0, Groups: w.anyGroups()}
		if n.Search {
			n.Domains = []string{"b.example", "a.example"}
		}
		w.named.nameservers[nameserver] = n
		return NameserverPut{n}
	case pick < 13:
		delete(w.named.nameservers, nameserver)
		return NameserverRemove{nameserver}
	}
	w.named.unmanaged = nil
	if w.random.IntN(2) == 0 {
		w.named.unmanaged = w.anyGroups()
	}
	return DNSSettingsPut{w.named.unmanaged}
}

func (w *world) anyGroups() (groups []string) {
	for i := range worldGroups {
		if w.random.IntN(3) == 0 {
			groups = append(groups, fmt.Sprintf("g%d", i))
		}
	}
	return groups
}

// heard returns who heard of the changes, with the kinds of ops that each was told.
func heard(t *testing.T, e *Engine, serial int64, changes ...Change) map[string]string {
	t.Helper()
	update, err := e.Apply(serial, changes...)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for id := range update.Peers() {
		d, err := e.Deltas(id, serial-1)
		if err != nil {
			t.Fatal(err)
		}
		event, err := d.Event(serial - 1)
		if err != nil {
			t.Fatal(err)
		}
		var ops []string
		for _, o := range event.Ops {
			ops = append(ops, string(o.Op))
		}
		all[id] = strings.Join(ops, " ")
	}
	return all
}

// TestNamesReachTheirGroups tells of each change of the DNS who hears what.
func TestNamesReachTheirGroups(t *testing.T) {
	e := mustNew(t)
	err := e.Load(1, []Change{
		simplePeer("a", 1), simplePeer("b", 2), simplePeer("c", 3),
		GroupPut{"web", []string{"a"}},
		GroupPut{"db", []string{"b"}},
		GroupPut{"quiet", []string{"c"}},
		GroupPut{"all", []string{"a", "b", "c"}},
		DNSSettingsPut{[]string{"quiet"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	zone := Zone{ID: "z", Domain: "corp.example", Groups: []string{"web"}}
	record := Record{ID: "r", Zone: "z", Name: "a.corp.example", Type: "A", Content: "192.0.2.1", TTL: 60}
	other := record
	other.ID, other.Content = "s", "192.0.2.2"
	both, none := zone, zone
	both.Groups, none.Groups = []string{"db", "web"}, nil
	changed := record
	changed.TTL = 300
	everywhere := Nameserver{ID: "n", Servers: []api.Nameserver{{Ip: "192.0.2.53", NsType: api.NameserverNsTypeUdp, Port: 53}}, Groups: []string{"all"}}
	const zoneAndTwo = "dns_zone_upsert dns_record_upsert dns_record_upsert"
	for i, step := range []struct {
		name    string
		changes []Change
		want    map[string]string
	}{
		{"zone", []Change{ZonePut{zone}}, map[string]string{"a": "dns_zone_upsert"}},
		{"record", []Change{RecordPut{record}}, map[string]string{"a": "dns_record_upsert"}},
		{"same record", []Change{RecordPut{record}}, map[string]string{}},
		{"two changes of records", []Change{RecordPut{changed}, RecordPut{other}}, map[string]string{"a": "dns_record_upsert dns_record_upsert"}},
		{"one more group", []Change{ZonePut{both}}, map[string]string{"b": zoneAndTwo}},
		{"a peer joins", []Change{MembersAdd{"web", []string{"c"}}}, map[string]string{}},
		{"servers", []Change{NameserverPut{everywhere}}, map[string]string{"a": "nameserver_upsert", "b": "nameserver_upsert"}},
		{"managed again", []Change{DNSSettingsPut{}}, map[string]string{"c": "self " + zoneAndTwo + " nameserver_upsert"}},
		{"unmanaged by joining", []Change{DNSSettingsPut{[]string{"db"}}}, map[string]string{"b": "self nameserver_remove dns_record_remove dns_record_remove dns_zone_remove"}},
		{"a peer leaves", []Change{MembersRemove{"web", []string{"c"}}}, map[string]string{"c": "dns_record_remove dns_record_remove dns_zone_remove"}},
		{"a record goes and comes", []Change{RecordRemove{"r"}, RecordPut{changed}}, map[string]string{}},
		{"disabled", []Change{ZonePut{none}}, map[string]string{"a": "dns_record_remove dns_record_remove dns_zone_remove"}},
		{"changed while nobody has it", []Change{RecordRemove{"r"}}, map[string]string{}},
		{"enabled", []Change{ZonePut{zone}}, map[string]string{"a": "dns_zone_upsert dns_record_upsert"}},
		{"zone goes", []Change{ZoneRemove{"z"}}, map[string]string{"a": "dns_record_remove dns_zone_remove"}},
		{"servers go", []Change{NameserverRemove{"n"}}, map[string]string{"a": "nameserver_remove", "c": "nameserver_remove"}},
	} {
		got := heard(t, e, int64(i+2), step.changes...)
		for id, ops := range got {
			if ops == "" {
				delete(got, id)
			}
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	for _, wrong := range [][]Change{{RecordPut{record}}, {ZonePut{zone}, ZoneRemove{"z"}, RecordPut{record}}} {
		if _, err := e.Apply(100, wrong...); err == nil || !strings.Contains(err.Error(), "no DNS zone z") {
			t.Errorf("a record without a zone: %v", err)
		}
	}
}

// BenchmarkRecord measures one record that changes in a zone of a thousand, known to every peer of the network.
func BenchmarkRecord(b *testing.B) {
	for _, s := range shapes {
		b.Run(fmt.Sprint(s.peers), func(b *testing.B) {
			e, _ := s.engine(b)
			var all []string
			for g := range s.groups {
				all = append(all, fmt.Sprintf("group-%d", g))
			}
			changes := []Change{ZonePut{Zone{ID: "z", Domain: "corp.example", Groups: all}}}
			record := func(n int, ttl uint32) Change {
				return RecordPut{Record{ID: fmt.Sprint(n), Zone: "z", Name: fmt.Sprintf("n%d.corp.example", n), Type: "A", Content: "192.0.2.1", TTL: ttl}}
			}
			for n := range 1000 {
				changes = append(changes, record(n, 60))
			}
			serial := int64(2)
			if _, err := e.Apply(serial, changes...); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				serial++
				if _, err := e.Apply(serial, record(int(serial)%1000, uint32(serial))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
