package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// What we chose for asking what a plan means for access.
const (
	previewLimit = 20              // changes of one plan that are asked about
	previewWait  = 5 * time.Second // for one answer
	namedPairs   = 5               // pairs of each kind that a warning names
)

// previews is how far a run asks what its changes mean for access. Zero, it asks.
type previews struct {
	mu    sync.Mutex // guards all below
	ended bool
	asked int
	said  bool            // a change of this run means something for access
	fresh map[string]bool // objects that this run refreshed
}

// end asks no more: the user wants it so, the server cannot tell, or the apply
// has begun.
func (p *previews) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// next reports whether one more change is asked about, and whether it is the
// first that is not for there being too many, where those before meant something.
func (p *previews) next() (ask, full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false, false
	}
	p.asked++
	return p.asked <= previewLimit, p.said && p.asked == previewLimit+1
}

// asks reports that next would still ask, or has the last word to say.
func (p *previews) asks() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended && p.asked <= previewLimit
}

// say notes that a change means something, so that what is not asked is worth a word.
func (p *previews) say() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = true
}

// refreshed notes an object that the run has read. Terraform plans the changes
// of an apply once more, without reading them: what they mean was said then.
func (p *previews) refreshed(n *terraform.Noun, ids []string) {
	if n.PreviewUpdate == nil && n.PreviewDelete == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if p.fresh == nil {
		p.fresh = map[string]bool{}
	}
	p.fresh[objectKey(n, ids)] = true
}

func (p *previews) isFresh(n *terraform.Noun, ids []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.ended && p.fresh[objectKey(n, ids)]
}

func objectKey(n *terraform.Noun, ids []string) string {
	return n.Name + "/" + strings.Join(ids, "/")
}

// A trial asks what one change means.
type trial func(ctx context.Context, opts ...sdk.CallOption) (*terraform.Access, error)

// previewAccess warns of the pairs of machines that gain or lose access by a
// change. What cannot be told is not said: a plan never fails for it.
func (r *nounResource) previewAccess(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if r.conn == nil || r.conn.client == nil || resp.Diagnostics.HasError() {
		return
	}
	var d diag.Diagnostics // what goes wrong here is for the apply to say
	try := r.trial(ctx, req, &d)
	if try == nil || d.HasError() {
		return
	}
	ask, full := r.conn.previews.next()
	if full {
		resp.Diagnostics.AddWarning("Access changes: more objects change", fmt.Sprintf("More than %d objects change. What the others mean for access was not asked.", previewLimit))
	}
	if !ask {
		return
	}
	within, cancel := context.WithTimeout(ctx, previewWait)
	defer cancel()
	access, err := try(within, sdk.Once())
	if err != nil {
		r.conn.previews.failed(err)
		tflog.Debug(ctx, "access preview failed", map[string]any{"noun": r.noun.Name, "error": err.Error()})
		return
	}
	if access == nil || d.HasError() {
		return
	}
	if text := accessText(access); text != "" {
		r.conn.previews.say()
		resp.Diagnostics.AddWarning("Access changes: "+r.label(ctx, req), text)
	}
}

// failed ends the asking unless the failure is about the one object.
func (p *previews) failed(err error) {
	var said *sdk.Error
	if errors.As(err, &said) && said.Problem.Status < http.StatusInternalServerError {
		switch said.Problem.Status {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		default:
			return
		}
	}
	p.end()
}

// trial is the request that tells what a planned change means; nil when there
// is no change, when its values are not all known, or when the server cannot
// tell. A replacement is a delete, and then, as Terraform plans it, a create.
func (r *nounResource) trial(ctx context.Context, req resource.ModifyPlanRequest, d *diag.Diagnostics) trial {
	n, c := r.noun, r.conn.client
	switch {
	case req.Plan.Raw.IsNull():
		if n.PreviewDelete == nil {
			return nil
		}
		return r.removal(objectIDs(ctx, n, req.State, d))
	case !req.Config.Raw.IsFullyKnown():
		return nil
	case req.State.Raw.IsNull():
		if n.PreviewCreate == nil {
			return nil
		}
		model, parents := n.NewModel(), parentIDs(ctx, n, req.Plan, d)
		d.Append(req.Plan.Get(ctx, model)...)
		r.writeOnly(ctx, req.Config, model, d)
		return func(ctx context.Context, opts ...sdk.CallOption) (*terraform.Access, error) {
			return n.PreviewCreate(ctx, c, parents, model, d, opts...)
		}
	case req.Plan.Raw.Equal(req.State.Raw):
		return nil
	}
	ids := objectIDs(ctx, n, req.State, d)
	switch {
	case !r.conn.previews.isFresh(n, ids):
		return nil
	case n.PreviewDelete != nil && (n.Update == nil || r.moves(ctx, req, d)):
		return r.removal(ids)
	case n.PreviewUpdate == nil:
		return nil
	}
	model := n.NewModel()
	req.Plan.Raw = without(req.Plan.Raw, r.unasked(ctx, req.Config, d))
	d.Append(req.Plan.Get(ctx, model)...)
	return func(ctx context.Context, opts ...sdk.CallOption) (*terraform.Access, error) {
		return n.PreviewUpdate(ctx, c, ids, model, d, opts...)
	}
}

func (r *nounResource) removal(ids []string) trial {
	return func(ctx context.Context, opts ...sdk.CallOption) (*terraform.Access, error) {
		return r.noun.PreviewDelete(ctx, r.conn.client, ids, opts...)
	}
}

// moves reports that the object gets other parents, and so is replaced.
func (r *nounResource) moves(ctx context.Context, req resource.ModifyPlanRequest, d *diag.Diagnostics) bool {
	return strings.Join(parentIDs(ctx, r.noun, req.State, d), "/") != strings.Join(parentIDs(ctx, r.noun, req.Plan, d), "/")
}

// label names the object of a plan. Terraform shows one of several warnings of
// the same title, so each has its own.
func (r *nounResource) label(ctx context.Context, req resource.ModifyPlanRequest) string {
	var d diag.Diagnostics // an attribute that is not there is no name
	var from attributes = req.Plan
	if req.Plan.Raw.IsNull() {
		from = req.State
	}
	noun := spaced(r.noun.Name)
	for _, names := range [][]string{{"name"}, idNames(r.noun)} {
		var parts []string
		for _, name := range names {
			if part := text(ctx, from, name, &d); part != "" {
				parts = append(parts, part)
			}
		}
		if len(parts) > 0 {
			return noun + " " + strings.Join(parts, "/")
		}
	}
	return noun
}

// accessText tells a preview in words; empty when no pair changes.
func accessText(p *terraform.Access) string {
	var b strings.Builder
	for _, part := range []struct {
		pairs       terraform.Pairs
		one, many   string
		permissions func(terraform.Pair) string
	}{
		{p.Gained, "gains access", "gain access", func(p terraform.Pair) string { return strings.Join(p.After, ", ") }},
		{p.Lost, "loses access", "lose access", func(p terraform.Pair) string { return strings.Join(p.Before, ", ") }},
		{p.Changed, "gets other access", "get other access", func(p terraform.Pair) string {
			return strings.Join(p.Before, ", ") + " becomes " + strings.Join(p.After, ", ")
		}},
	} {
		if part.pairs.Count == 0 {
			continue
		}
		if part.pairs.Count == 1 {
			fmt.Fprintf(&b, "1 pair of machines %s:\n", part.one)
		} else {
			fmt.Fprintf(&b, "%d pairs of machines %s:\n", part.pairs.Count, part.many)
		}
		shown := part.pairs.Sample[:min(namedPairs, len(part.pairs.Sample))]
		for _, pair := range shown {
			fmt.Fprintf(&b, "  %s to %s: %s\n", endText(pair.Source), endText(pair.Destination), part.permissions(pair))
		}
		if rest := part.pairs.Count - int64(len(shown)); rest > 0 && len(shown) > 0 {
			fmt.Fprintf(&b, "  and %d more\n", rest)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func endText(end terraform.End) string {
	if end.Type == "peer" {
		return end.Name
	}
	return end.Type + " " + end.Name
}
