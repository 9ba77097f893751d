// A Protected Item: made step by step, or changed at any step.
import {
  Alert,
  Button,
  Collapse,
  Group,
  NumberInput,
  Select,
  SimpleGrid,
  Stack,
  Stepper,
  Switch,
  Text,
  Textarea,
  TextInput,
} from '@mantine/core';
import { useNavigate, useParams } from '@tanstack/react-router';
import { useMemo, useState } from 'react';
import { useConnections, useEditProfile, useProfile } from '../../api/queries';
import type { Item, Profile, Rule } from '../../api/types';
import { FolderTree } from '../../components/FolderTree';
import { Plus } from '../../components/icons';
import { Lines } from '../../components/Lines';
import { AnchorLink, ButtonLink } from '../../components/links';
import { Empty, Failure, Loaded, Page } from '../../components/parts';
import { RetentionEditor } from '../../components/RetentionEditor';
import { Schedules } from '../../components/Schedules';
import { t } from '../../i18n';
import { newId } from '../../lib/format';
import {
  engineOptions,
  FILES,
  newItem,
  newRule,
  PROGRAM,
  valuesOf,
  withFlag,
  withValues,
} from '../../lib/items';
import { keepAll, newSchedule, retentionText, ruleText } from '../../lib/schedule';
import { useParam } from '../../lib/search';
import { connectionsOf } from './connections';

type Rules = Record<string, Rule>;
type Change<T> = (next: T) => void;

function Files({ item, set, target }: { item: Item; set: Change<Item>; target: string | undefined }) {
  const props = item.EngineProps;
  const include = valuesOf(props, 'INCLUDE');
  const exclude = valuesOf(props, 'EXCLUDE');
  const change = (prefix: string, values: string[]) =>
    set({ ...item, EngineProps: withValues(item.EngineProps, prefix, values) });
  const flag = (key: string, label: string, help: string) => (
    <Switch
      label={label}
      description={help}
      checked={key in props}
      onChange={(e) => set({ ...item, EngineProps: withFlag(props, key, e.currentTarget.checked) })}
    />
  );
  return (
    <Stack gap="md">
      {target ? (
        <FolderTree
          target={target}
          choice={{ include, exclude }}
          set={(next) =>
            set({
              ...item,
              EngineProps: withValues(withValues(props, 'INCLUDE', next.include), 'EXCLUDE', next.exclude),
            })
          }
        />
      ) : (
        <Alert color="orange" variant="light">
          {t('The device is off line, so its folders can not be shown. Paths can be written below.')}
        </Alert>
      )}
      <SimpleGrid cols={{ base: 1, sm: 2 }}>
        <Lines
          label={t('Folders and files')}
          help={t('One path a line')}
          value={include}
          set={(next) => change('INCLUDE', next)}
        />
        <Lines
          label={t('Left out')}
          help={t('Paths or patterns such as *.tmp, one a line')}
          value={exclude}
          set={(next) => change('EXCLUDE', next)}
        />
        <Lines
          label={t('Left out by regular expression')}
          help={t('Tested against the full path')}
          value={valuesOf(props, 'REXCLUDE')}
          set={(next) => change('REXCLUDE', next)}
        />
      </SimpleGrid>
      <SimpleGrid cols={{ base: 1, sm: 2 }}>
        {flag(
          'RESCAN_UNCHANGED',
          t('Read unchanged files too'),
          t('Slower; finds changes that left size and time alone'),
        )}
        {flag(
          'USE_SNAPSHOT',
          t('Read from a snapshot (btrfs, LVM)'),
          t('Linux only: saves files as they were at one moment'),
        )}
        {flag(
          'USE_WIN_VSS',
          t('Freeze the disk (VSS)'),
          t('Windows only: backs up open files as they were at one moment'),
        )}
        {flag(
          'EXTRA_ATTRIBUTES',
          t('Keep extended attributes'),
          t('Rights and attributes beyond the usual ones'),
        )}
        {flag(
          'CONFIRM_EFS',
          t('Accept encrypted files (EFS)'),
          t('Windows only: no warning for files that only their owner can open'),
        )}
      </SimpleGrid>
    </Stack>
  );
}

function Program({ item, set }: { item: Item; set: Change<Item> }) {
  const field = (key: string, label: string, help: string) => (
    <TextInput
      label={label}
      description={help}
      value={item.EngineProps[key] ?? ''}
      onChange={(e) => set({ ...item, EngineProps: { ...item.EngineProps, [key]: e.currentTarget.value } })}
    />
  );
  return (
    <SimpleGrid cols={{ base: 1, sm: 2 }}>
      {field('COMMAND', t('Command'), t('What it writes is backed up as one file'))}
      {field('SAVEAS', t('Name of the file'), t('Such as database.sql'))}
      {field('WORKDIR', t('Working folder'), t('Where the command runs'))}
    </SimpleGrid>
  );
}

function OtherEngine({ item, set }: { item: Item; set: Change<Item> }) {
  const [text, setText] = useState(JSON.stringify(item.EngineProps, null, 2));
  const [wrong, setWrong] = useState(false);
  return (
    <Textarea
      label={t('Properties as JSON')}
      description={t('Texts by name, as the engine reads them')}
      autosize
      minRows={6}
      error={wrong ? t('This is not a JSON object of texts') : undefined}
      value={text}
      styles={{ input: { fontFamily: 'var(--mantine-font-family-monospace)', fontSize: 13 } }}
      onChange={(e) => {
        const next = e.currentTarget.value;
        setText(next);
        try {
          const value = JSON.parse(next) as Record<string, string>;
          const fine =
            typeof value === 'object' &&
            value !== null &&
            Object.values(value).every((v) => typeof v === 'string');
          setWrong(!fine);
          if (fine) set({ ...item, EngineProps: value });
        } catch {
          setWrong(true);
        }
      }}
    />
  );
}

function What({
  item,
  set,
  profile,
  target,
}: {
  item: Item;
  set: Change<Item>;
  profile: Profile;
  target: string | undefined;
}) {
  const policy = profile.Policy?.ProtectedItemEngineTypes;
  const engines = engineOptions().filter(
    (e) =>
      e.value === item.Engine ||
      !policy?.ShouldRestrictEngineTypeList ||
      policy.AllowedEngineTypeWhenRestricted.includes(e.value),
  );
  return (
    <Stack gap="md">
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        <TextInput
          label={t('Name')}
          required
          placeholder={t('Such as Documents')}
          value={item.Description}
          onChange={(e) => set({ ...item, Description: e.currentTarget.value })}
        />
        <Select
          label={t('Device')}
          data={Object.entries(profile.Devices).map(([id, d]) => ({
            value: id,
            label: d.FriendlyName || id,
          }))}
          value={item.OwnerDevice}
          onChange={(next) => set({ ...item, OwnerDevice: next ?? '' })}
        />
        <Select
          label={t('Kind')}
          data={engines}
          value={item.Engine}
          onChange={(next) => set({ ...item, Engine: next ?? FILES, EngineProps: {} })}
        />
      </SimpleGrid>
      {item.Engine === FILES && <Files item={item} set={set} target={target} />}
      {item.Engine === PROGRAM && <Program item={item} set={set} />}
      {item.Engine !== FILES && item.Engine !== PROGRAM && <OtherEngine item={item} set={set} />}
    </Stack>
  );
}

function RuleBox({
  rule,
  set,
  remove,
  profile,
}: {
  rule: Rule;
  set: Change<Rule>;
  remove: () => void;
  profile: Profile;
}) {
  const [more, setMore] = useState(false);
  const triggers = rule.EventTriggers ?? {};
  const trigger = (key: keyof typeof triggers, label: string) => (
    <Switch
      label={label}
      checked={Boolean(triggers[key])}
      onChange={(e) => set({ ...rule, EventTriggers: { ...triggers, [key]: e.currentTarget.checked } })}
    />
  );
  const flag = (
    key: 'SkipAlreadyRunning' | 'ReduceDiskConcurrency' | 'UseOnDiskIndexes' | 'AllowZeroFilesSuccess',
    label: string,
  ) => (
    <Switch
      label={label}
      checked={Boolean(rule[key])}
      onChange={(e) => set({ ...rule, [key]: e.currentTarget.checked })}
    />
  );
  return (
    <div className="card">
      <Stack gap="sm">
        <SimpleGrid cols={{ base: 1, sm: 2 }}>
          <TextInput
            label={t('Name of the rule')}
            placeholder={ruleText(rule)}
            value={rule.Description}
            onChange={(e) => set({ ...rule, Description: e.currentTarget.value })}
          />
          <Select
            label={t('To which Storage Vault')}
            data={Object.entries(profile.Destinations).map(([id, v]) => ({
              value: id,
              label: v.Description || id,
            }))}
            value={rule.Destination}
            onChange={(next) => set({ ...rule, Destination: next ?? '' })}
          />
        </SimpleGrid>
        <Schedules value={rule.Schedules ?? []} set={(next) => set({ ...rule, Schedules: next })} />
        <Group justify="space-between">
          <Button
            variant="subtle"
            color="gray"
            size="compact-sm"
            onClick={() => setMore(!more)}
            aria-expanded={more}
          >
            {t('Triggers, limits and commands')}
          </Button>
          <Button variant="subtle" color="red" size="compact-sm" onClick={remove}>
            {t('Remove this rule')}
          </Button>
        </Group>
        <Collapse expanded={more}>
          <SimpleGrid cols={{ base: 1, sm: 2 }}>
            {trigger('OnPCBoot', t('Also when the device starts'))}
            {trigger('OnPCBootIfLastJobMissed', t('Also at the start if the last one was missed'))}
            {trigger('OnLastJobFailDoRetry', t('Try again after a failure'))}
            {flag('SkipAlreadyRunning', t('Skip if one is running already'))}
            {flag('AllowZeroFilesSuccess', t('No files at all is no error'))}
            {flag('ReduceDiskConcurrency', t('Spare the disk: read one file at a time'))}
            {flag('UseOnDiskIndexes', t('Spare memory: keep indexes on the disk'))}
            {triggers.OnLastJobFailDoRetry && (
              <Group grow>
                <NumberInput
                  label={t('Tries')}
                  min={1}
                  value={triggers.LastJobFailDoRetryCount ?? 1}
                  onChange={(n) =>
                    set({ ...rule, EventTriggers: { ...triggers, LastJobFailDoRetryCount: Number(n) || 1 } })
                  }
                />
                <NumberInput
                  label={t('Pause')}
                  suffix=" min"
                  min={1}
                  value={triggers.LastJobFailDoRetryTime ?? 30}
                  onChange={(n) =>
                    set({ ...rule, EventTriggers: { ...triggers, LastJobFailDoRetryTime: Number(n) || 1 } })
                  }
                />
              </Group>
            )}
            <NumberInput
              label={t('Stop after')}
              description={t('0: never')}
              suffix=" min"
              min={0}
              value={Math.round(rule.StopAfter / 60)}
              onChange={(n) => set({ ...rule, StopAfter: (Number(n) || 0) * 60 })}
            />
            <NumberInput
              label={t('Limit the speed')}
              description={t('0: no limit')}
              suffix=" KiB/s"
              min={0}
              value={Math.round(rule.LimitVaultSpeedBps / 1024)}
              onChange={(n) => set({ ...rule, LimitVaultSpeedBps: (Number(n) || 0) * 1024 })}
            />
            <Select
              label={t('Retention pass afterwards')}
              data={[
                { value: '0', label: t('Automatic') },
                { value: '1', label: t('After every backup') },
                { value: '2', label: t('More often') },
                { value: '3', label: t('Less often') },
              ]}
              value={String(rule.AutoRetentionLevel)}
              onChange={(next) => set({ ...rule, AutoRetentionLevel: Number(next) })}
            />
            <Lines
              label={t('Commands before')}
              value={rule.PreExec ?? []}
              set={(next) => set({ ...rule, PreExec: next })}
            />
            <Lines
              label={t('Commands after')}
              value={rule.PostExec ?? []}
              set={(next) => set({ ...rule, PostExec: next })}
            />
          </SimpleGrid>
        </Collapse>
      </Stack>
    </div>
  );
}

function When({
  id,
  rules,
  set,
  profile,
}: {
  id: string;
  rules: Rules;
  set: Change<Rules>;
  profile: Profile;
}) {
  const vaults = Object.keys(profile.Destinations);
  if (vaults.length === 0) {
    return (
      <Empty
        action={
          <ButtonLink
            to="/accounts/$username/vaults/$vault/edit"
            params={{ username: profile.Username, vault: 'new' }}
          >
            {t('Add Storage Vault')}
          </ButtonLink>
        }
      >
        {t('The account has no Storage Vault yet, so nothing can be backed up on schedule.')}
      </Empty>
    );
  }
  const add = () => {
    const free =
      vaults.find((v) => !Object.values(rules).some((r) => r.Destination === v)) ?? vaults[0] ?? '';
    set({ ...rules, [newId()]: { ...newRule(id, free), Schedules: [newSchedule()] } });
  };
  return (
    <Stack gap="sm">
      {Object.keys(rules).length === 0 && (
        <Empty>{t('Without a rule the item is backed up only by hand.')}</Empty>
      )}
      {Object.entries(rules).map(([key, rule]) => (
        <RuleBox
          key={key}
          rule={rule}
          profile={profile}
          set={(next) => set({ ...rules, [key]: next })}
          remove={() => set(Object.fromEntries(Object.entries(rules).filter(([k]) => k !== key)))}
        />
      ))}
      <Button variant="default" w="fit-content" leftSection={<Plus size={14} />} onClick={add}>
        {t('Add rule')}
      </Button>
      <Text size="xs" c="dimmed">
        {t("Times are the device's own.")}
      </Text>
    </Stack>
  );
}

function Keep({ item, set, profile }: { item: Item; set: Change<Item>; profile: Profile }) {
  const own = item.OverrideDestinationRetention ?? {};
  if (profile.Policy?.PreventProtectedItemRetention) {
    return <Empty>{t('The policy leaves retention to the Storage Vaults.')}</Empty>;
  }
  return (
    <Stack gap="md">
      {Object.entries(profile.Destinations).map(([id, vault]) => {
        const value = own[id];
        return (
          <div key={id} className="card">
            <Stack gap="xs">
              <Switch
                label={t('Own retention in {vault}', { vault: vault.Description || id })}
                description={t("The vault's: {rule}", { rule: retentionText(vault.DefaultRetention) })}
                checked={value !== undefined}
                onChange={(e) => {
                  const { [id]: _, ...rest } = own;
                  set({
                    ...item,
                    OverrideDestinationRetention: e.currentTarget.checked
                      ? { ...rest, [id]: keepAll() }
                      : rest,
                  });
                }}
              />
              {value && (
                <RetentionEditor
                  value={value}
                  set={(next) => set({ ...item, OverrideDestinationRetention: { ...own, [id]: next } })}
                />
              )}
            </Stack>
          </div>
        );
      })}
      {Object.keys(profile.Destinations).length === 0 && <Empty>{t('There is no Storage Vault yet.')}</Empty>}
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        <Lines
          label={t('Commands before')}
          value={item.PreExec ?? []}
          set={(next) => set({ ...item, PreExec: next })}
        />
        <Lines
          label={t('Commands after the snapshot')}
          value={item.ThawExec ?? []}
          set={(next) => set({ ...item, ThawExec: next })}
        />
        <Lines
          label={t('Commands after')}
          value={item.PostExec ?? []}
          set={(next) => set({ ...item, PostExec: next })}
        />
      </SimpleGrid>
    </Stack>
  );
}

function Editor({ profile, id, isNew }: { profile: Profile; id: string; isNew: boolean }) {
  const username = profile.Username;
  const firstDevice = Object.keys(profile.Devices)[0] ?? '';
  const [device] = useParam('device');
  const stored = profile.Sources[id];
  const [item, setItem] = useState<Item>(
    () => stored ?? newItem(device in profile.Devices ? device : firstDevice),
  );
  const [rules, setRules] = useState<Rules>(() => {
    const own = Object.fromEntries(Object.entries(profile.BackupRules).filter(([, r]) => r.Source === id));
    const vault = Object.keys(profile.Destinations)[0];
    return isNew && vault ? { [newId()]: { ...newRule(id, vault), Schedules: [newSchedule()] } } : own;
  });
  const [step, setStep] = useParam('step');
  const at = Math.min(2, Math.max(0, Number(step) - 1 || 0));
  const navigate = useNavigate();
  const connections = useConnections();
  const target = connectionsOf(connections.data ?? {}, username, item.OwnerDevice)[0];
  const edit = useEditProfile(username);
  const hasWhat =
    item.Engine === FILES
      ? Object.keys(item.EngineProps).some((key) => /^[PR]?INCLUDE/.test(key))
      : item.Engine === PROGRAM
        ? Boolean(item.EngineProps.COMMAND)
        : true;
  const lacks = !item.Description.trim()
    ? t('Give the item a name.')
    : !hasWhat
      ? t('Choose what is backed up.')
      : null;
  const back = () => navigate({ to: '/accounts/$username', params: { username }, search: { tab: 'items' } });
  const save = () =>
    edit.mutate(
      (p) => {
        p.Sources[id] = { ...item, ModifyTime: Math.floor(Date.now() / 1000) };
        for (const [key, rule] of Object.entries(p.BackupRules)) {
          if (rule.Source === id) delete p.BackupRules[key];
        }
        for (const [key, rule] of Object.entries(rules)) {
          p.BackupRules[key] = { ...rule, Description: rule.Description || ruleText(rule) };
        }
      },
      { onSuccess: back },
    );
  if (!firstDevice) {
    return (
      <Empty
        action={
          <ButtonLink to="/install" search={{ q: username }}>
            {t('Add a device')}
          </ButtonLink>
        }
      >
        {t('A Protected Item belongs to a device. Register one first.')}
      </Empty>
    );
  }
  return (
    <Stack gap="md">
      <Stepper active={at} onStepClick={(n) => setStep(String(n + 1))} size="xs" iconSize={26}>
        <Stepper.Step label={t('What')} description={t('Device, folders')}>
          <What item={item} set={setItem} profile={profile} target={target} />
        </Stepper.Step>
        <Stepper.Step label={t('When and where')} description={t('Schedules, vault')}>
          <When id={id} rules={rules} set={setRules} profile={profile} />
        </Stepper.Step>
        <Stepper.Step label={t('Retention')} description={t('What stays, commands')}>
          <Keep item={item} set={setItem} profile={profile} />
        </Stepper.Step>
      </Stepper>
      <Failure error={edit.error} />
      <Group justify="space-between" className="savebar">
        <Text size="sm" c="dimmed">
          {lacks}
        </Text>
        <Group gap="xs">
          <Button variant="default" onClick={back}>
            {t('Cancel')}
          </Button>
          {at < 2 && (
            <Button variant={isNew ? 'filled' : 'default'} onClick={() => setStep(String(at + 2))}>
              {t('Next')}
            </Button>
          )}
          {(!isNew || at === 2 || Boolean(lacks) === false) && (
            <Button onClick={save} loading={edit.isPending} disabled={lacks !== null}>
              {t('Save')}
            </Button>
          )}
        </Group>
      </Group>
    </Stack>
  );
}

export function ItemPage() {
  const { username = '', item = '' } = useParams({ strict: false }) as { username?: string; item?: string };
  const profile = useProfile(username);
  const isNew = item === 'new';
  const id = useMemo(() => (isNew ? newId() : item), [isNew, item]);
  return (
    <Loaded query={profile}>
      {({ Profile: p }) => (
        <Page
          title={
            <>
              <AnchorLink to="/accounts/$username" params={{ username }} inherit c="dimmed">
                {username}
              </AnchorLink>{' '}
              / {isNew ? t('New Protected Item') : p.Sources[id]?.Description || id}
            </>
          }
        >
          {isNew || p.Sources[id] ? (
            <Editor key={id} profile={p} id={id} isNew={isNew} />
          ) : (
            <Empty>{t('There is no such Protected Item.')}</Empty>
          )}
        </Page>
      )}
    </Loaded>
  );
}
