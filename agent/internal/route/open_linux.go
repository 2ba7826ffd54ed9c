package route

// Open returns the routing of this host, and removes what an agent that was killed has left. The error says why the
// kernel cannot be told.
func Open(o Options) (Host, error) { return NewKernel(o) }
