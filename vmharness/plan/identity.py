"""Every identifier of an image, derived from one seed.

The rule: an identifier is the name-based UUID of RFC 9562, section 5.5 (version 5), of the text ``LABEL:SEED`` in this
project's namespace; identifiers of 32 bits (FAT volume ids, the signature of an MBR) are the first ones of such a
UUID. Labels are fixed and hold no colon, so no two identifiers of one seed are made from the same text, and anyone can
recompute them with ``uuidgen --sha1``.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from attrs import frozen

from vmharness.model.image import GivenIdentifiers

NAMESPACE = UUID("6c2f0f3e-54e1-4f0b-9d0a-3f2b8f6a7c51")


@frozen(kw_only=True)
class Identifiers:
    """The identifiers of one image.

    :param disk_guid: of a GPT.
    :param disk_signature: of an MBR, 32 bits.
    :param esp_guid: of the EFI system partition (its ``PARTUUID``), as ``bios_guid``, ``boot_guid`` and ``root_guid``
        are of the others.
    :param root_uuid: of the root filesystem.
    :param hash_seed: seed of the root filesystem's directory hashes.
    :param esp_volume_id: 32-bit volume id of the EFI system partition's FAT, as ``boot_volume_id`` is of the boot
        partition's.
    """

    disk_guid: UUID
    disk_signature: int
    esp_guid: UUID
    bios_guid: UUID
    boot_guid: UUID
    root_guid: UUID
    root_uuid: UUID
    hash_seed: UUID
    esp_volume_id: int
    boot_volume_id: int


def derive(seed: str, given: GivenIdentifiers | None = None) -> Identifiers:
    """The identifiers that belong to ``seed``: the same seed gives the same ones, everywhere and always.

    An image that is not to be deterministic is given a random seed by the caller.

    :param given: those that the user chose; they stand as they are.
    """
    given = given or GivenIdentifiers()

    def identifier(label: str) -> UUID:
        return named(seed, label)

    def number(label: str, chosen: int | None) -> int:
        # zero means "none" in an MBR and to some readers of a FAT
        return (identifier(label).time_low or 1) if chosen is None else chosen

    return Identifiers(
        disk_guid=given.disk_guid or identifier("disk"),
        disk_signature=number("disk-signature", given.disk_signature),
        esp_guid=given.esp_partition_guid or identifier("esp-partition"),
        bios_guid=given.bios_partition_guid or identifier("bios-partition"),
        boot_guid=given.boot_partition_guid or identifier("boot-partition"),
        root_guid=given.root_partition_guid or identifier("root-partition"),
        root_uuid=given.root_filesystem_uuid or identifier("root-filesystem"),
        hash_seed=given.root_hash_seed or identifier("root-hash-seed"),
        esp_volume_id=number("esp-volume-id", given.esp_volume_id),
        boot_volume_id=number("boot-volume-id", given.boot_volume_id),
    )


def named(seed: str, label: str) -> UUID:
    """The identifier with that label: ``root-partition``, ``home-filesystem``, ..."""
    return uuid5(NAMESPACE, f"{label}:{seed}")


def image_file(seed: str) -> UUID:
    """The identifier of the image file itself, which VDI and VHD have."""
    return named(seed, "image-file")
