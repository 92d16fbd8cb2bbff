"""One Exchange organisation as seen over the network: HTTP and sign-in, WS-Man, PSRP shells, cmdlets over a store."""
