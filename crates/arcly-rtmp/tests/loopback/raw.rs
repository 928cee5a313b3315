//! A client without the client.

use super::*;

/// A client that speaks for itself, message by message.
pub(crate) struct Raw {
    socket: TcpStream,
    decoder: ChunkDecoder,
    pending: Vec<u8>,
    transaction: f64,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(mut socket: TcpStream) -> Self {
        socket.write_all(&[&[3][..], &[0; 2 * 1_536]].concat()).await.unwrap();
        let mut answer = vec![0; 1 + 2 * 1_536];
        socket.read_exact(&mut answer).await.unwrap();
        let decoder = ChunkDecoder::new(ChunkLimits::default());
        let mut raw = Self { socket, decoder, pending: Vec::new(), transaction: 0.0 };
        let connect = Connect { app: "live".into(), ..Connect::default() };
        raw.request(0, Request::Connect(Box::new(connect))).await;
        raw
    }

    pub(crate) async fn request(&mut self, stream_id: u32, request: Request) {
        self.transaction += 1.0;
        self.message(MessageType::CommandAmf0, stream_id, &request.encode(self.transaction).encode()).await;
    }

    pub(crate) async fn message(&mut self, kind: MessageType, stream_id: u32, body: &[u8]) {
        let mut out = BytesMut::new();
        let header = MessageHeader { csid: ChunkStreamId::COMMAND, timestamp: 0, kind, stream_id };
        encode_message(&mut out, &header, &[body], 128);
        self.socket.write_all(&out).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let pending = std::mem::take(&mut self.pending);
            let mut input = &pending[..];
            let message = self.decoder.decode(&mut input).unwrap();
            self.pending = input.to_vec();
            if let Some(message) = message {
                let control = ControlMessage::decode(message.kind, &message.payload).unwrap();
                if let Some(ControlMessage::SetChunkSize(size)) = control {
                    self.decoder.set_chunk_size(size);
                }
                return message;
            }
            let mut buf = vec![0; 64 << 10];
            let read =
                tokio::time::timeout(LIMIT, self.socket.read(&mut buf)).await.expect("an answer in time");
            let read = read.unwrap();
            assert_ne!(read, 0, "the server hung up");
            self.pending = buf[..read].to_vec();
        }
    }

    /// The next audio or video message.
    pub(crate) async fn media(&mut self) -> Message {
        loop {
            let message = self.next().await;
            if message.kind.is_media() {
                return message;
            }
        }
    }
}
