package runtime

import (
	"context"
	"errors"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wattlenet/wattle/generated/sdk"
	"github.com/wattlenet/wattle/generated/terraform"
)

// What we chose for reading many objects.
const (
	singleReads = 3               // reads by GET before a collection is listed
	listLife    = 5 * time.Second // after which a list is asked for again
	onePage     = 1000            // a list of at most so many has one ETag
)

// connection is the configured provider: a client and the lists it has read.
// The client is nil while the provider's arguments are not known.
type connection struct {
	client   *sdk.Client
	previews previews

	mu     sync.Mutex // guards all below
	lists  map[string]*collection
	shapes map[string]string // by noun
}

// collection is what is known of the objects at one path: how often it was read, and its objects by id once
// reading them one by one does not pay any more.
type collection struct {
	mu      sync.Mutex // guards all below; held during a request, so that one asks for all
	reads   int
	objects map[string]any
	etag    string
	at      time.Time
}

func (c *connection) collection(n *terraform.Noun, parents []string) *collection {
	key := n.Name + "/" + strings.Join(parents, "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil {
		c.lists = map[string]*collection{}
	}
	if c.lists[key] == nil {
		c.lists[key] = &collection{}
	}
	return c.lists[key]
}

// shape is a digest of the type of the noun's resource.
func (c *connection) shape(ctx context.Context, n *terraform.Noun) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shapes == nil {
		c.shapes = map[string]string{}
	}
	if c.shapes[n.Name] == "" {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(n.Schema().Type().TerraformType(ctx).String())) // a hash takes everything
		c.shapes[n.Name] = strconv.FormatUint(hash.Sum64(), 36)
	}
	return c.shapes[n.Name]
}

// read returns one object. The first reads of a collection ask for the object
// itself; after them one request lists the collection for all. An object that
// the list does not have is asked for once more, so that a missing one is
// always the server's word.
func (c *connection) read(ctx context.Context, n *terraform.Noun, ids []string) (any, error) {
	c.previews.refreshed(n, ids)
	if n.List == nil || n.Key == "" {
		return n.Read(ctx, c.client, ids)
	}
	parents, id := ids[:len(ids)-1], ids[len(ids)-1]
	l := c.collection(n, parents)
	object, err := l.object(ctx, c.client, n, parents, id)
	if object == nil && err == nil {
		return n.Read(ctx, c.client, ids)
	}
	return object, err
}

// object returns nil when the object is to be read by itself.
func (l *collection) object(ctx context.Context, client *sdk.Client, n *terraform.Noun, parents []string, id string) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads++; l.reads <= singleReads {
		return nil, nil
	}
	if l.objects == nil || time.Since(l.at) > listLife {
		if err := l.load(ctx, client, n, parents); err != nil {
			return nil, err
		}
	}
	return l.objects[id], nil
}

func (l *collection) load(ctx context.Context, client *sdk.Client, n *terraform.Noun, parents []string) error {
	var etag string
	opts := []sdk.CallOption{sdk.ETag(&etag)}
	if l.objects != nil && len(l.objects) <= onePage {
		opts = append(opts, sdk.IfNoneMatch(l.etag))
	}
	objects := map[string]any{}
	for object, err := range n.List(ctx, client, parents, opts...) {
		switch {
		case errors.Is(err, sdk.ErrNotModified):
			l.at = time.Now()
			return nil
		case sdk.IsNotFound(err): // the parent is gone: so are its children
			l.objects, l.etag, l.at = objects, "", time.Now()
			return nil
		case err != nil:
			return err
		}
		objects[n.ID(object)] = object
	}
	l.objects, l.etag, l.at = objects, etag, time.Now()
	return nil
}

// forget drops what was listed of a collection, since a write changed it.
func (c *connection) forget(n *terraform.Noun, parents []string) {
	l := c.collection(n, parents)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects = nil
}
