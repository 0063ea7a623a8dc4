// Package slowlink is a slow cable in user space, for kernels that can delay nothing themselves: every packet that a host
// sends to the others goes through a TUN device, waits, and goes on; some are doubled, some overtake.
//
// What happens to a packet is decided by Schedule, which has a seed and no clock. Run does it.
package slowlink
