import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/** Where there is no MongoDB: mongo-java-server, in memory, on the given port of 127.0.0.1, with change streams or without. */
public class MongoServer {
    public static void main(String[] arguments) {
        var backend = new MemoryBackend();
        backend.version(new MongoVersion() {
            @Override public List<Integer> getVersionArray() { return List.of(5, 0, 0); }
            // The library's own ServerVersion.MONGO_5_0 says 8, which the Rust driver refuses as too old.
            @Override public int getWireVersion() { return 13; }
        });
        var server = new de.bwaldvogel.mongo.MongoServer(backend);
        if (arguments.length > 1 && arguments[1].equals("change-streams")) server.enableOplog();
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }
}
