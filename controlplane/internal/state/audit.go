package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/audit"
	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
)

// ListAuditEvents lists who changed what, newest first. Without a limit the
// answer holds the newest 1000 events and the cursor of those before.
func (s *State) ListAuditEvents(ctx context.Context, p auth.Principal, params api.ListAuditEventsParams) (items []api.AuditEvent, next string, err error) {
	before, limit, err := page{limit: params.Limit, cursor: params.Cursor}.bounds()
	if err != nil {
		return nil, "", err
	}
	if before < 0 {
		before = math.MaxInt64
	}
	if limit == 0 {
		limit = 1000
	}
	items = []api.AuditEvent{}
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		rows, err := store.AuditBefore(ctx, tx, p.AccountID, before, limit+1, auditFilter(params))
		if err != nil {
			return err
		}
		if len(rows) > limit {
			rows = rows[:limit]
			next = encodeCursor(rows[limit-1].N)
		}
		for _, row := range rows {
			event, err := showEvent(row)
			if err != nil {
				return err
			}
			items = append(items, event)
		}
		return nil
	})
	return items, next, asProblem(err)
}

func auditFilter(params api.ListAuditEventsParams) (f store.AuditFilter) {
	for _, part := range []struct {
		asked *string
		into  *string
	}{{params.Activity, &f.Activity}, {params.Initiator, &f.InitiatorID}, {params.Target, &f.TargetID}} {
		if part.asked != nil {
			*part.into = *part.asked
		}
	}
	if params.Since != nil {
		f.Since = *params.Since
	}
	if params.Until != nil {
		f.Until = *params.Until
	}
	return f
}

// GetAuditEvent reads one event by its number.
func (s *State) GetAuditEvent(ctx context.Context, p auth.Principal, id string) (answer api.AuditEvent, err error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != id {
		return answer, problem.NotFound("audit event")
	}
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		row, err := store.FindAuditEvent(ctx, tx, p.AccountID, n)
		if row, err = found(row, err, "audit event"); err != nil {
			return err
		}
		answer, err = showEvent(row)
		return err
	})
	return answer, asProblem(err)
}

func showEvent(row store.AuditEntry) (event api.AuditEvent, err error) {
	event = api.AuditEvent{
		Id: strconv.FormatInt(row.N, 10), Timestamp: row.CreatedAt, Activity: activityText(row.Activity), ActivityCode: row.Activity,
		InitiatorId: row.InitiatorID, InitiatorName: row.InitiatorName, InitiatorEmail: row.InitiatorEmail, TargetId: row.TargetID,
		Channel: api.AuditEventChannel(row.Channel), RequestId: row.RequestID,
	}
	if err := json.Unmarshal([]byte(row.Meta), &event.Meta); err != nil {
		return event, fmt.Errorf("audit event %d: %w", row.N, err)
	}
	for _, side := range []struct {
		text string
		into **map[string]any
	}{{row.Before, &event.Before}, {row.After, &event.After}} {
		if side.text == "" {
			continue
		}
		value := map[string]any{}
		if err := json.Unmarshal([]byte(side.text), &value); err != nil {
			return event, fmt.Errorf("audit event %d: %w", row.N, err)
		}
		*side.into = &value
	}
	return event, nil
}

// activityText writes a code such as setup-key.create as "Setup key created".
func activityText(code string) string {
	noun, verb, _ := strings.Cut(code, ".")
	words := map[string]string{
		"create": "created", "update": "changed", "delete": "deleted", "peer.add": "member added", "peer.remove": "member removed",
		"regenerate": "renewed", "accept": "accepted",
		"resource.add": "network resource added", "resource.remove": "network resource removed",
		"enroll": "enrolled", "withdraw": "withdrew", "expire": "removed after absence", "posture": "meets other posture checks", "turn": "rules began or ended",
		"write": "written", "restore": "restored", "lock": "locked", "unlock": "unlocked", "force-unlock": "unlocked by force",
	}
	if said, ok := words[verb]; ok {
		verb = said
	}
	noun = strings.ReplaceAll(noun, "-", " ")
	return strings.ToUpper(noun[:1]) + noun[1:] + " " + verb
}

// VerifyAudit follows the hash chain of an account from its first event. The
// error names the first event that was changed or is missing.
func (s *State) VerifyAudit(ctx context.Context, accountID string) error {
	var chain audit.Verifier
	for n := int64(1); ; {
		var rows []store.AuditEntry
		err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
			rows, err = store.AuditFrom(ctx, tx, accountID, n, 1000)
			return err
		})
		if err != nil {
			return asProblem(err)
		}
		for _, row := range rows {
			if err := chain.Next(row); err != nil {
				return err
			}
			n = row.N + 1
		}
		if len(rows) < 1000 {
			return nil
		}
	}
}
