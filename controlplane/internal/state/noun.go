package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/netmap"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
)

// A noun is one kind of object that is kept as JSON: what differs between
// policies, networks, zones and their like. Everything that they have in common,
// from the transaction to the audit event, is written once, below.
//
// B is what is kept of an object besides its name; A is how the contract shows it.
type noun[B, A any] struct {
	// kind names the rows, the references and the activities of the audit: "dns-zone".
	kind string
	// title names an object in problems: "DNS zone".
	title string
	// creating, changing and deleting are the permissions.
	creating, changing, deleting string
	// in is where an account keeps the objects in memory.
	in func(*account) *ordered[object[B]]
	// unique is the value that only one object of the account may have, and the
	// field it comes from; nil when none has to be.
	unique func(name string, body B) (field, value string)
	// refs are the references inside an object; nil for none. A reference in the
	// field parentField names the object that this one is a part of.
	refs func(B) []store.Ref
	// indexed is where an account finds an object besides by its id; nil for nowhere.
	indexed func(*account, object[B]) []entry
	// show is the object in an answer.
	show func(*account, object[B]) A
	// compiled is what the network map learns when an object was put, and gone
	// what it learns when one was removed; nil for nothing.
	compiled, gone func(*account, object[B]) []netmap.Change
}

// parentField is the field of a reference from a part to its whole. Such a
// reference does not keep the whole from being deleted: the parts go with it.
const parentField = "parent"

// An object in memory. It is replaced, never changed in place.
type object[B any] struct {
	ID, Name     string
	Seq, Version int64
	Body         B
}

// A keptNoun is a noun whatever it is made of.
type keptNoun interface {
	kindName() string
	// apply brings a row into memory and returns what the network map learns.
	apply(a *account, row store.Object, remove bool) ([]netmap.Change, error)
	// whole is what the network map learns of all objects of the account.
	whole(a *account) []netmap.Change
	// again is the answer that showed the object when it was created; nil when it is gone.
	again(a *account, id string) any
}

// kinds lists every noun in the order in which an account is loaded: what is
// named by others comes before them.
var kinds = []keptNoun{
	postureChecks,
	networks, networkResources, networkRouters, routes, policies, identityProviders,
	dnsSettings, dnsZones, dnsRecords, nameserverGroups,
}

func nounOf(kind string) (keptNoun, bool) {
	at := slices.IndexFunc(kinds, func(n keptNoun) bool { return n.kindName() == kind })
	if at < 0 {
		return nil, false
	}
	return kinds[at], true
}

func (n *noun[B, A]) kindName() string { return n.kind }

func (n *noun[B, A]) apply(a *account, row store.Object, remove bool) ([]netmap.Change, error) {
	o, err := n.read(row)
	if err != nil {
		return nil, err
	}
	if n.indexed != nil {
		n.reindex(a, o, remove)
	}
	tell := n.compiled
	if remove {
		n.in(a).remove(o.ID, o.Seq)
		tell = n.gone
	} else {
		n.in(a).put(o.ID, o.Seq, o)
	}
	if tell == nil {
		return nil, nil
	}
	return tell(a, o), nil
}

// reindex brings the indexes of an account to the new form of an object.
func (n *noun[B, A]) reindex(a *account, o object[B], remove bool) {
	if was, known := n.in(a).get(o.ID); known {
		for _, e := range n.indexed(a, was) {
			e.in.remove(e.key, o.ID)
		}
	}
	if remove {
		return
	}
	for _, e := range n.indexed(a, o) {
		e.in.put(e.key, o.ID, e.rank)
	}
}

func (n *noun[B, A]) whole(a *account) (changes []netmap.Change) {
	if n.compiled == nil {
		return nil
	}
	for o := range n.in(a).all() {
		changes = append(changes, n.compiled(a, o)...)
	}
	return changes
}

func (n *noun[B, A]) again(a *account, id string) any {
	if o, ok := n.in(a).get(id); ok {
		return n.shown(a, o)
	}
	return nil
}

// shown is the object in an answer, with the program that declares it.
func (n *noun[B, A]) shown(a *account, o object[B]) A { return withProvenance(a, o.ID, n.show(a, o)) }

// read turns a row into the object that memory keeps.
func (n *noun[B, A]) read(row store.Object) (o object[B], err error) {
	o = object[B]{ID: row.ID, Name: row.Name, Seq: row.Seq, Version: row.Version}
	if err = json.Unmarshal([]byte(row.Body), &o.Body); err != nil {
		err = fmt.Errorf("%s %s: %w", n.kind, row.ID, err)
	}
	return o, err
}

// list answers with the objects that fit.
func (n *noun[B, A]) list(s *State, p auth.Principal, part page, fits func(object[B]) bool) (items []A, next string, err error) {
	err = s.reading(p, func(a *account) error {
		items, next, err = list(n.in(a), part, fits, func(o object[B]) A { return n.shown(a, o) })
		return err
	})
	return items, next, err
}

// get answers with one object. within is the object it has to be a part of;
// empty for an object that is part of none. An object that is reached through
// another parent does not exist there.
func (n *noun[B, A]) get(s *State, p auth.Principal, within, id string) (answer A, err error) {
	err = s.reading(p, func(a *account) error {
		o, ok := n.in(a).get(id)
		if !ok || n.parent(o.Body) != within {
			return problem.NotFound(n.title)
		}
		answer = n.shown(a, o)
		return nil
	})
	return answer, err
}

// parent is the object that a body is part of; empty for none.
func (n *noun[B, A]) parent(body B) string {
	if n.refs == nil {
		return ""
	}
	for _, ref := range n.refs(body) {
		if ref.Field == parentField {
			return ref.ToID
		}
	}
	return ""
}

// create makes an object. want checks the request against the rows of the
// transaction and returns what to keep.
func (n *noun[B, A]) create(ctx context.Context, s *State, p auth.Principal, want func(w *write) (name string, body B, err error)) (answer A, err error) {
	var id string
	err = s.write(ctx, p, n.creating, func(w *write) error {
		name, body, err := want(w)
		if err != nil {
			return err
		}
		if id, err = n.insert(w, name, body); err != nil {
			return err
		}
		return w.note(n.kind+".create", id, name, nil, audited[B]{name, body})
	}, func(a *account) { answer = n.shown(a, n.in(a).byID[id]) })
	return answer, err
}

// insert writes a new object.
func (n *noun[B, A]) insert(w *write, name string, body B) (id string, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	o := store.Object{
		ID: newID(), AccountID: w.account.ID, Kind: n.kind, Seq: w.seq(), Name: name, NameKey: n.key(name, body), CreatedAt: w.now, Version: 1, Body: string(text),
	}
	w.change(change{Object: &o})
	if err := store.Objects.Insert(w.ctx, w.tx, &o); err != nil {
		return "", n.taken(err, name, body)
	}
	return o.ID, n.setRefs(w, o.ID, body)
}

// taken turns the store's refusal of a value that another object has into a conflict.
func (n *noun[B, A]) taken(err error, name string, body B) error {
	if n.unique == nil || !errors.Is(err, store.ErrExists) {
		return err
	}
	field, value := n.unique(name, body)
	return problem.Conflict(n.title, field, value)
}

// key is the value under which the store keeps an object unique; nil for none.
func (n *noun[B, A]) key(name string, body B) *string {
	if n.unique == nil {
		return nil
	}
	_, value := n.unique(name, body)
	return &value
}

func (n *noun[B, A]) setRefs(w *write, id string, body B) error {
	if n.refs == nil {
		return nil
	}
	return store.SetRefs(w.ctx, w.tx, w.account.ID, n.kind, id, n.refs(body))
}

// update replaces an object. want gets what is kept so far and returns what to
// keep; when both are equal nothing happens.
func (n *noun[B, A]) update(
	ctx context.Context, s *State, p auth.Principal, within, id, ifMatch string, want func(w *write, had object[B]) (name string, body B, err error),
) (answer A, err error) {
	err = s.write(ctx, p, n.changing, func(w *write) error {
		row, had, err := n.find(w, within, id, ifMatch)
		if err != nil {
			return err
		}
		name, body, err := want(w, had)
		if err != nil {
			return err
		}
		if err := n.replace(w, row, name, body); err != nil {
			return err
		}
		return w.note(n.kind+".update", id, name, audited[B]{had.Name, had.Body}, audited[B]{name, body})
	}, func(a *account) { answer = n.shown(a, n.in(a).byID[id]) })
	return answer, err
}

// replace writes another name and body into a row, as its next version;
// errUnchanged when it has both.
func (n *noun[B, A]) replace(w *write, row store.Object, name string, body B) error {
	row.Version++
	return n.rewrite(w, row, name, body)
}

// rewrite is replace for what changes by itself: the version stays.
func (n *noun[B, A]) rewrite(w *write, row store.Object, name string, body B) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if row.Name == name && row.Body == string(text) {
		return errUnchanged
	}
	row.Name, row.NameKey, row.Body = name, n.key(name, body), string(text)
	w.change(change{Object: &row})
	if err := store.Objects.Update(w.ctx, w.tx, &row); err != nil {
		return n.taken(err, name, body)
	}
	return n.setRefs(w, row.ID, body)
}

// find reads an object inside the transaction, at the version that the caller
// knows. within is as for get; ifMatch is empty when any version will do.
func (n *noun[B, A]) find(w *write, within, id, ifMatch string) (row store.Object, o object[B], err error) {
	row, err = store.FindObject(w.ctx, w.tx, w.account.ID, n.kind, id)
	if row, err = found(row, err, n.title); err != nil {
		return row, o, err
	}
	if o, err = n.read(row); err != nil {
		return row, o, err
	}
	if n.parent(o.Body) != within {
		return row, o, problem.NotFound(n.title)
	}
	return row, o, checkMatch(ifMatch, n.title, row.Version)
}

// delete removes an object that nothing names any more. parts removes what goes
// with it, and may be nil.
func (n *noun[B, A]) delete(ctx context.Context, s *State, p auth.Principal, within, id, ifMatch string, parts func(w *write, had object[B]) error) error {
	return s.write(ctx, p, n.deleting, func(w *write) error {
		row, had, err := n.find(w, within, id, ifMatch)
		if err != nil {
			return err
		}
		if parts != nil {
			if err := parts(w, had); err != nil {
				return err
			}
		}
		if err := n.remove(w, row); err != nil {
			return err
		}
		return w.note(n.kind+".delete", id, had.Name, audited[B]{had.Name, had.Body}, nil)
	}, func(*account) {})
}

// remove deletes a row with its references; it is refused while another object
// names it.
func (n *noun[B, A]) remove(w *write, row store.Object) error {
	referrers, err := w.referrers(n.kind, row.ID)
	if err != nil {
		return err
	}
	if len(referrers) > 0 {
		return problem.StillReferred(n.title, row.Name, referrers...)
	}
	w.change(change{Object: &row, Remove: true})
	if err := store.SetRefs(w.ctx, w.tx, w.account.ID, n.kind, row.ID, nil); err != nil {
		return err
	}
	return store.Objects.Delete(w.ctx, w.tx, row.ID)
}

// parts returns the rows of a noun that are part of an object.
func (n *noun[B, A]) parts(w *write, kind, id string) (rows []store.Object, err error) {
	refs, err := store.RefsTo(w.ctx, w.tx, w.account.ID, kind, id)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if ref.FromKind != n.kind || ref.Field != parentField {
			continue
		}
		row, err := store.FindObject(w.ctx, w.tx, w.account.ID, n.kind, ref.FromID)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// withName fits objects with a name; every object when no name is asked for.
func withName[B any](name *string) func(object[B]) bool {
	return named(name, func(o object[B]) string { return o.Name })
}

// An audited is an object in an audit event: the fields of its body with the
// name beside them.
type audited[B any] struct {
	name string
	body B
}

// MarshalJSON writes one object.
func (o audited[B]) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(o.body)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	if fields["name"], err = json.Marshal(o.name); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// unchanged is a fault when a client sends another value than the one of a field
// that never changes. Absent, null and the empty text are not used.
func unchanged[T comparable](field string, asked nullable.Nullable[T], is T) []problem.FieldError {
	wanted, err := asked.Get()
	if text, ok := any(wanted).(string); err != nil || wanted == is || ok && text == "" {
		return nil
	}
	return []problem.FieldError{problem.Field(field, "cannot be changed and stays %v; leave it out, or make another object", is)}
}
