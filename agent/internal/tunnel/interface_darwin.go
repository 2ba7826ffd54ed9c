package tunnel

// DefaultInterface is the name of the interface in ModeUserspace. macOS knows
// tunnels as utun and a number; without one it chooses.
const DefaultInterface = "utun"
