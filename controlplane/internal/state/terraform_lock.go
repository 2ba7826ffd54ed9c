package state

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// The lock of a state:
//
//	          lock X                 unlock X, or unlock without an id
//	free ───────────────> held by X ──────────────────────────────────> free
//	                       │  ^
//	                       └──┘ lock X again; write, restore, delete with X
//
// Everything else while it is held is refused with who holds it.

// checkLock refuses a caller who does not name the lock that is held.
func checkLock(row store.TerraformState, lockID string) error {
	if row.LockID == "" || row.LockID == lockID {
		return nil
	}
	lock, err := heldLock(row)
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("the Terraform state %s is locked by %s with the lock %s; wait until the run ends, or release the lock with terraform force-unlock %s",
		row.Name, holder(lock), lock.ID, lock.ID)
	return problem.Locked(detail, lock)
}

func holder(lock *api.TerraformLock) string {
	if lock.Who == nil || *lock.Who == "" {
		return "somebody"
	}
	text := *lock.Who
	if lock.Operation != nil && *lock.Operation != "" {
		text += " (" + *lock.Operation + ")"
	}
	return text
}

// LockTerraformState takes the lock of a state, which need not exist. It is
// locked when another lock is held; taking the same lock again changes nothing.
func (s *State) LockTerraformState(ctx context.Context, p auth.Principal, name string, req api.TerraformLock) (answer api.TerraformLock, err error) {
	if err := checkStateName(name); err != nil {
		return answer, err
	}
	info, err := json.Marshal(req)
	if err != nil {
		return answer, problem.Internal(err)
	}
	err = s.write(ctx, p, api.PermissionTerraformStatesUpdate, func(w *write) error {
		row, _, err := w.terraformState(name)
		if err != nil {
			return err
		}
		if row.LockID == req.ID {
			return errUnchanged
		}
		if err := checkLock(row, req.ID); err != nil {
			return err
		}
		fresh := row.Version == 0
		row.LockID, row.LockInfo = req.ID, string(info)
		if err := w.putState(row, fresh); err != nil {
			return err
		}
		return w.note("terraform-state.lock", name, name, nil, lockAudit(req))
	}, func(*account) { answer = req })
	return answer, err
}

// UnlockTerraformState releases the lock with an id; without one, whichever is
// held. A state that is not locked stays as it is.
func (s *State) UnlockTerraformState(ctx context.Context, p auth.Principal, name, lockID string) error {
	if err := checkStateName(name); err != nil {
		return err
	}
	return s.write(ctx, p, api.PermissionTerraformStatesUpdate, func(w *write) error {
		row, _, err := w.terraformState(name)
		if err != nil {
			return err
		}
		if row.LockID == "" {
			return errUnchanged
		}
		activity := "terraform-state.unlock"
		if lockID == "" {
			activity = "terraform-state.force-unlock"
		} else if err := checkLock(row, lockID); err != nil {
			return err
		}
		held, err := heldLock(row)
		if err != nil {
			return err
		}
		if row.Version == 0 { // it was there for its lock only
			err = store.TerraformStates.Delete(w.ctx, w.tx, w.account.ID, name)
		} else {
			row.LockID, row.LockInfo = "", ""
			err = w.putState(row, false)
		}
		if err != nil {
			return err
		}
		return w.note(activity, name, name, lockAudit(*held), nil)
	}, func(*account) {})
}

func lockAudit(lock api.TerraformLock) map[string]any {
	return map[string]any{"id": lock.ID, "holder": holder(&lock)}
}
