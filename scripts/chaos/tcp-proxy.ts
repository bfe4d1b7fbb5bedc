import { createConnection, createServer, type AddressInfo, type Socket } from 'node:net'

export interface TcpProxy {
  port: number
  /** Ends about `share` (0 to 1) of the open connections without a goodbye; returns how many. */
  cut: (share: number) => number
  /** Refuses new connections and ends the open ones until `open` is called. */
  close: () => void
  open: () => void
  stop: () => Promise<void>
}

/**
 * A proxy on loopback. Each connection goes to the first target that takes it.
 * @param targets the ports to try, in order, for the next connection
 */
export async function startTcpProxy(targets: () => number[]): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let isOpen = true
  const server = createServer(client => {
    if (!isOpen) return void client.resetAndDestroy()
    track(client)
    void connectToFirst(targets()).then(upstream => {
      if (upstream === undefined) return client.destroy()
      track(upstream)
      client.pipe(upstream).once('close', () => client.destroy())
      upstream.pipe(client).once('close', () => upstream.destroy())
      return undefined
    })
  })
  function track(socket: Socket): void {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => sockets.delete(socket))
  }
  const cut = (share: number) => {
    const chosen = [...sockets].filter((_socket, index) => index % 100 < share * 100)
    for (const socket of chosen) socket.resetAndDestroy()
    return chosen.length
  }
  await new Promise<void>(listening => void server.listen(0, '127.0.0.1', listening))
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    close: () => {
      isOpen = false
      cut(1)
    },
    open: () => void (isOpen = true),
    stop: async () => {
      const closed = new Promise(done => void server.close(done))
      cut(1)
      await closed
    },
  }
}

async function connectToFirst(ports: number[]): Promise<Socket | undefined> {
  for (const port of ports) {
    const socket = createConnection({ host: '127.0.0.1', port })
    const isConnected = await new Promise<boolean>(settled => {
      socket.once('connect', () => settled(true)).once('error', () => settled(false))
    })
    if (isConnected) return socket
  }
  return undefined
}
