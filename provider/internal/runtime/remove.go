package runtime

import (
	"context"
	"time"

	"github.com/wattlenet/wattle/generated/sdk"
)

// How long a delete waits for the other deletes of the same run to let go of
// the object: Terraform orders what refers to each other, but not what an
// optIn attribute or a name refers to.
const (
	inUseFor  = 8 * time.Second
	inUseWait = 250 * time.Millisecond // doubled up to two seconds
)

// remove deletes an object and repeats that for a few seconds while something
// still uses it.
func (r *nounResource) remove(ctx context.Context, ids []string) error {
	deadline := time.Now().Add(inUseFor)
	for wait := inUseWait; ; wait = min(2*wait, 2*time.Second) {
		err := r.noun.Delete(ctx, r.conn.client, ids)
		if !inUse(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// inUse reports a problem that lists what refers to the object.
func inUse(err error) bool {
	p, ok := sdk.AsProblem(err)
	return ok && (sdk.IsInUse(err) || p.Referrers != nil && len(*p.Referrers) > 0)
}
