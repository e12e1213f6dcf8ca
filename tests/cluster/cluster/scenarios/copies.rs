//! D7: what a late reader says of a lost copy says nothing of the copy that was made since.
//!
//! The owner's part (which copy a report is about) is in `worker/src/core/lineage.rs`, over its pure core. Here is the
//! nodes' part: what readers are told, and what lies in the stores when everything is over.

use aktis_common::ids::ObjectId;

use crate::sandbox::cluster::HEAD;
use crate::sandbox::objects::{LARGE, Read};
use crate::sandbox::{Cluster, Driver, Host, pass, run};

/// The node of the owner and of the readers.
const HOME: Host = Host(1);
/// Where the object is made first.
const FAR: Host = Host(2);
/// Where another copy is.
const THIRD: Host = Host(3);

struct Copies {
    owner: Driver,
    maker: Driver,
    other_maker: Driver,
    object: ObjectId,
}

/// Three nodes, and an object of a process at home, made far away.
async fn object_far_away(cluster: &mut Cluster) -> Copies {
    cluster.with_nodes(&[1, 1, 1]).await;
    let owner = cluster.driver(HOME).await;
    let maker = cluster.driver(FAR).await;
    let other_maker = cluster.driver(THIRD).await;
    pass(2).await;
    let object = maker.put_for(&owner, LARGE).await;
    Copies {
        owner,
        maker,
        other_maker,
        object,
    }
}

/// D7 as it was found: the node dies with the copy while two readers wait for it.
#[test]
fn readers_of_a_copy_that_died_hear_of_that_one_alone() {
    run(async |cluster| {
        let Copies {
            owner,
            other_maker,
            object,
            ..
        } = object_far_away(cluster).await;
        let (far, third) = (cluster.node(FAR).id, cluster.node(THIRD).id);
        cluster.net.cut(HOME, FAR);
        let first = owner.begin_read(object, &owner, &[far]);
        let second = owner.begin_read(object, &owner, &[far]);
        pass(1).await;
        cluster.crash_node(FAR);
        let missed = owner.finish_read(object, first).await;
        assert_eq!(missed, Read::Missed(vec![far]));
        // The task runs again, before the second reader has had its say.
        other_maker.make(object, &owner, LARGE).await;
        let late = owner.finish_read(object, second).await;
        assert_eq!(late, Read::Missed(vec![far]), "nothing of the new copy");
        assert_eq!(owner.read(object, &owner, &[third]).await, Read::Here);
        owner.free(object, &[third]);
        pass(5).await;
        cluster.check_stores_empty().await;
    });
}

/// The copy goes while its node lives, and is made again where it was.
#[test]
fn copy_that_was_made_again_on_its_node_is_found() {
    run(async |cluster| {
        let Copies {
            owner,
            maker,
            object,
            ..
        } = object_far_away(cluster).await;
        let far = cluster.node(FAR).id;
        maker.free(object, &[far]);
        pass(1).await;
        assert_eq!(
            owner.read(object, &owner, &[far]).await,
            Read::Missed(vec![far])
        );
        maker.make(object, &owner, LARGE).await;
        assert_eq!(owner.read(object, &owner, &[far]).await, Read::Here);
        owner.free(object, &[far]);
        pass(5).await;
        cluster.check_stores_empty().await;
    });
}

/// The same while a transfer is under way for readers that were told of the old copies.
#[test]
fn copy_that_was_made_again_is_found_by_a_reader_that_joins_an_old_transfer() {
    run(async |cluster| {
        let Copies {
            owner,
            maker,
            other_maker,
            object,
        } = object_far_away(cluster).await;
        let (far, third) = (cluster.node(FAR).id, cluster.node(THIRD).id);
        other_maker.make(object, &owner, LARGE).await;
        maker.free(object, &[far]);
        pass(1).await;
        cluster.net.cut(HOME, THIRD);
        // Far away it is missed; the transfer from the third node hangs.
        let early = owner.begin_read(object, &owner, &[far, third]);
        pass(1).await;
        maker.make(object, &owner, LARGE).await;
        let late = owner.begin_read(object, &owner, &[far]);
        pass(1).await;
        cluster.crash_node(THIRD);
        assert_eq!(owner.finish_read(object, late).await, Read::Here);
        assert_eq!(owner.finish_read(object, early).await, Read::Here);
        owner.free(object, &[far]);
        pass(5).await;
        cluster.check_stores_empty().await;
    });
}

/// A machine that vanishes closes nothing: what is held for it goes when it is declared dead.
#[test]
fn object_that_a_vanished_node_was_reading_can_be_freed() {
    run(async |cluster| {
        cluster.with_nodes(&[1, 1]).await;
        let owner = cluster.driver(HOME).await;
        let reader = cluster.driver(FAR).await;
        let home = cluster.node(HOME).id;
        pass(2).await;
        // A stream that is there already takes the request along the way that is whole.
        let (first, second) = (
            owner.put_for(&owner, LARGE).await,
            owner.put_for(&owner, LARGE).await,
        );
        assert_eq!(reader.read(first, &owner, &[home]).await, Read::Here);
        cluster.net.cut_towards(HOME, FAR);
        let _hangs = reader.begin_read(second, &owner, &[home]);
        pass(1).await;
        cluster.net.cut(FAR, HOME);
        cluster.net.cut(FAR, HEAD);
        owner.free(first, &[home]);
        owner.free(second, &[home]);
        pass(1).await;
        assert_eq!(cluster.status(HOME).await.store_used_bytes, LARGE);
        cluster
            .until("the node is declared dead", 60, async |cluster| {
                cluster.status(HOME).await.store_used_bytes == 0
            })
            .await;
    });
}
