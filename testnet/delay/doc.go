// Package delay is a long cable in user space, for kernels that have no netem: a box that joins two network namespaces by a TUN
// device in each. Every packet waits its time on the way, some are lost, and no more leave at a time than the cable carries.
//
// It is for measuring: TCP, QUIC and whatever else runs between the namespaces cross the same path, packet by packet; no
// proxy ends a connection on the way. What happens to a packet is decided by a lane, which has a seed and no clock; a Box does
// it. testnet/lan/slowlink is its sister for hosts of one bridge: that one doubles packets and lets them overtake, this one loses
// them and has a rate.
//
// It owns the two devices, and the namespaces that it made. It asserts nothing of what crosses it.
package delay
